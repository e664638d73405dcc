"""BCM: a novel class is looked for where the base learner sees the base class that it is mostly taken for.

counts_kj = cells of novel class j that the base learner calls k. Each j belongs to the top_k base classes (background
among them) of its largest counts. For every base class k with novel classes of its own a logistic regression on
x^beta, over all cells of all supports, tells them from everything else; where the base map says k, its argmax decides.
With several shots it is a vote of regressions: one of every shot alone and one, of weight 5, of all.
Source: BCM (base-class mining), NeurIPS 2024.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.bcm.regression import Regression, regress
from model.common.ops import on_cells, resize, to_cpu
from model.common.with_base_learner import WithBaseSettings
from model.contract import register
from model.episode import IGNORE
from model.generalised import EPS, GeneralisedModel


@dataclass
class BCMSettings(WithBaseSettings):
    """BCM's own settings; ``config/model/bcm.yaml`` explains them."""

    beta: float = field(default=0.5, metadata={"low": 0})
    sampling: Literal["bg", "us", "os"] = "bg"
    ensemble: bool = True
    top_k: int = field(default=1, metadata={"low": -1})
    seed: int = field(default=2023, metadata={"low": 0})


class State(NamedTuple):
    """The association of n novel classes with base classes, and the regressions within these."""

    counts: Tensor  # (N + 1, n) int64
    table: Tensor  # (N + 1, n) bool
    votes: dict[int, list[Regression]]  # base class -> of every shot, then of all; only where there are two targets


@register("bcm")
class BCM(GeneralisedModel):
    """Regressions within base classes; the base learner's map changes only where a novel class is put."""

    Settings = BCMSettings
    title = "BCM"
    for_base_stages = True
    settings: BCMSettings

    @torch.no_grad()
    def fit_features(self, features: Sequence[Tensor], labels: Sequence[Tensor]) -> State:
        """Return the regressions; samples are drawn base classes ascending, single shots, then all."""
        settings, random = self.settings, np.random.RandomState(self.settings.seed)
        first, classes = len(self.base.bias), len(features)
        cells = [on_cells(y, x.shape[-2:]) for x, y in zip(features, labels, strict=True)]
        powers = [x.pow(settings.beta).permute(0, 2, 3, 1) for x in features]
        called = [self.base.logits(x).argmax(1) for x in features]
        cells, called, powers = to_cpu([cells, called, powers])  # regressions are there
        counts = torch.zeros(first, classes, dtype=torch.int64)
        for j, (x, y) in enumerate(zip(called, cells)):
            counts[:, j] = torch.bincount(x[y == first + j], minlength=first)
        top_k = settings.top_k if settings.top_k >= 0 else None
        most = counts.sort(dim=0, descending=True, stable=True).indices[:top_k]
        table = torch.zeros_like(counts, dtype=torch.bool).scatter(0, most, True) & (counts > 0)
        shots = range(max(map(len, features))) if settings.ensemble and max(map(len, features)) > 1 else ()
        votes = {}
        for k in table.any(1).nonzero().flatten().tolist():
            own = torch.zeros(IGNORE + 1, dtype=torch.int64)  # channel -> target
            own[first + table[k].nonzero().flatten()] = torch.arange(1, int(table[k].sum()) + 1)
            found = []
            for shot in (*(slice(s, s + 1) for s in shots), slice(None)):
                x, y = (torch.cat([part[shot].flatten(0, 2) for part in parts]) for parts in (powers, cells))
                known = y != IGNORE
                found.append(regress(x[known], own[y[known].long()], int(own.max()) + 1, settings.sampling, random))
            if found[-1] is not None:
                votes[k] = [vote.on(features[0].device) for vote in found if vote is not None]
        return State(counts, table, votes)

    @torch.no_grad()
    def label(self, features_bchw: Tensor, valid_bhw: Tensor, state: State) -> Tensor:
        """Return log p_k of the base classes; of a novel class that of the largest plus its odds."""
        probability = self.base_probability(features_bchw, valid_bhw.shape[-2:])
        largest, claimed = probability.clamp(min=EPS).log().max(1, keepdim=True)
        odds = self._odds(features_bchw, claimed[:, 0], state)
        return torch.cat([probability.clamp(min=EPS).log(), largest + odds.log()], 1)

    @torch.no_grad()
    def channels(self, features_bchw: Tensor, valid_bhw: Tensor, state: State, alone_bss: Tensor) -> Tensor:
        """Return those of ``label`` without the probabilities of base classes."""
        odds, novel = self._odds(features_bchw, alone_bss, state).max(1)
        return torch.where(odds > 1, len(self.base.bias) + novel, alone_bss)

    def _odds(self, features_bchw: Tensor, claimed_bss: Tensor, state: State) -> Tensor:
        """Return q_j / q_0 of novel classes, (B, n, S, S), where the base map says their k; else the least."""
        out = features_bchw.new_full((len(claimed_bss), state.table.shape[1], *claimed_bss.shape[1:]), EPS)
        x = features_bchw.pow(self.settings.beta)
        inside = {k: claimed_bss == k for k in state.votes}
        claimed = torch.stack([where.any() for where in inside.values()]).tolist() if inside else []
        for (k, votes), there in zip(state.votes.items(), claimed):
            if there:
                weight = x.new_ones(len(votes))
                weight[-1] = 5.0  # votes of the regression of all shots, for any number of them
                total = torch.einsum("v,vbrhw->brhw", weight, torch.stack([vote.probability(x) for vote in votes]))
                known = weight @ torch.stack([vote.known for vote in votes]).float()  # a target's mean is over these
                found = resize(total / known[:, None, None], claimed_bss.shape[1:]).clamp(min=EPS)
                for target, novel in enumerate(state.table[k].nonzero().flatten().tolist(), 1):
                    out[:, novel] = torch.where(inside[k], found[:, target] / found[:, 0], out[:, novel])
        return out
