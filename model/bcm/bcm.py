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
from model.contract import register
from model.episode import IGNORE
from model.kinds.generalised import EPS, Cells, GeneralisedModel
from model.kinds.with_base_learner import WithBaseSettings
from model.tensors.ops import resize
from model.tensors.transfers import to_cpu

ALL_SHOTS = 5.0  # weight of the regression of all shots in a vote, for any number of them


@dataclass
class BCMSettings(WithBaseSettings):
    """BCM's own settings."""

    beta: float = field(default=0.5, metadata={"low": 0})  # exponent of the features, which are not negative
    # Cells that a regression is fitted to. bg: all of its novel classes, of the rest as many as the second most
    # frequent has; us, os: of each as many as the rarest, the most frequent one has
    sampling: Literal["bg", "us", "os"] = "bg"
    # With several shots: a vote of a regression of each and one of all, which has 5 votes
    ensemble: bool = True
    # Base classes within which a novel class is looked for; -1: all that its supports touch
    top_k: int = field(default=1, metadata={"low": -1})
    seed: int = field(default=2023, metadata={"low": 0})  # of the samples


class NovelRegressions(NamedTuple):
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
    def fit_cells(self, supports: Sequence[Cells]) -> NovelRegressions:
        """Return the regressions; samples are drawn base classes ascending, single shots, then all."""
        settings = self.settings
        device = supports[0].features.device
        first_novel = len(self.base.bias)
        labels = [cells.label for cells in supports]
        powers = [cells.features.pow(settings.beta).permute(0, 2, 3, 1) for cells in supports]
        claimed = [self.base.logits(cells.features).argmax(1) for cells in supports]
        channels, claimed, powers = to_cpu([labels, claimed, powers])  # regressions are there

        counts = torch.zeros(first_novel, len(supports), dtype=torch.int64)
        for j, (claims, of_class) in enumerate(zip(claimed, channels)):
            is_object = of_class == first_novel + j
            counts[:, j] = torch.bincount(claims[is_object], minlength=first_novel)
        table = association(counts, settings.top_k)
        random = np.random.RandomState(settings.seed)
        votes = {}
        for base_class in table.any(1).nonzero().flatten().tolist():
            targets = target_of_channel(table[base_class], first_novel)
            regressions = self._fit_votes(powers, channels, targets, random)
            if regressions[-1] is not None:
                votes[base_class] = [vote.on(device) for vote in regressions if vote is not None]
        return NovelRegressions(counts, table, votes)

    def _fit_votes(
        self,
        powers: Sequence[Tensor],
        channels: Sequence[Tensor],
        target_of_channel: Tensor,
        random: np.random.RandomState,
    ) -> list[Regression | None]:
        """Return the regressions of a base class, of every shot alone where these vote and, last, of all shots.

        Features (K, h, w, C) and channels (K, h, w) are of each novel class's supports.
        """
        shots = max(map(len, powers))
        groups = []
        if self.settings.ensemble and shots > 1:
            groups = [slice(shot, shot + 1) for shot in range(shots)]
        groups.append(slice(None))
        regressions = []
        for group in groups:
            x_mc = torch.cat([part[group].flatten(0, 2) for part in powers])
            channel_m = torch.cat([part[group].flatten(0, 2) for part in channels])
            known = channel_m != IGNORE
            known_channel_m = channel_m[known].long()
            target_m = target_of_channel[known_channel_m]
            targets = int(target_of_channel.max()) + 1
            regressions.append(regress(x_mc[known], target_m, targets, self.settings.sampling, random))
        return regressions

    @torch.no_grad()
    def label(self, features_bchw: Tensor, valid_bhw: Tensor, state: NovelRegressions) -> Tensor:
        """Return log p_k of the base classes; of a novel class that of the largest plus its odds."""
        probability = self.base_probability(features_bchw, valid_bhw.shape[-2:])
        log_probability = probability.clamp(min=EPS).log()
        largest, claimed = log_probability.max(1, keepdim=True)
        odds = self._odds(features_bchw, claimed[:, 0], state)
        return torch.cat([log_probability, largest + odds.log()], 1)

    @torch.no_grad()
    def channels(self, features_bchw: Tensor, valid_bhw: Tensor, state: NovelRegressions, alone_bss: Tensor) -> Tensor:
        """Return those of ``label`` without the probabilities of base classes."""
        odds, novel = self._odds(features_bchw, alone_bss, state).max(1)
        return torch.where(odds > 1, len(self.base.bias) + novel, alone_bss)

    def _odds(self, features_bchw: Tensor, claimed_bss: Tensor, state: NovelRegressions) -> Tensor:
        """Return q_j / q_0 of novel classes, (B, n, S, S), where the base map says their k; else the least."""
        size = claimed_bss.shape[1:]
        odds = features_bchw.new_full((len(claimed_bss), state.table.shape[1], *size), EPS)
        if not state.votes:
            return odds
        power_bchw = features_bchw.pow(self.settings.beta)
        claims = {base_class: claimed_bss == base_class for base_class in state.votes}
        is_claimed = torch.stack([claim.any() for claim in claims.values()]).tolist()
        for (base_class, votes), is_there in zip(state.votes.items(), is_claimed):
            if not is_there:
                continue
            coarse = mean_probability(votes, power_bchw)
            probability = resize(coarse, size).clamp(min=EPS)
            novel_classes = state.table[base_class].nonzero().flatten().tolist()
            for target, novel in enumerate(novel_classes, 1):
                of_class = probability[:, target] / probability[:, 0]
                odds[:, novel] = torch.where(claims[base_class], of_class, odds[:, novel])
        return odds


def association(counts: Tensor, top_k: int) -> Tensor:
    """Return whether each novel class belongs to each base class, (N + 1, n) bool: to its ``top_k`` of most cells.

    All that have a cell count where ``top_k`` is -1.
    """
    largest = counts.sort(dim=0, descending=True, stable=True).indices
    if top_k >= 0:
        largest = largest[:top_k]
    chosen = torch.zeros_like(counts, dtype=torch.bool).scatter(0, largest, True)
    return chosen & (counts > 0)


def target_of_channel(belongs_n: Tensor, first_novel: int) -> Tensor:
    """Return the target of every channel in the regression of a base class, whose novel classes are 1, 2 ..; else 0."""
    targets = torch.zeros(IGNORE + 1, dtype=torch.int64)
    novel = belongs_n.nonzero().flatten()
    targets[first_novel + novel] = torch.arange(1, len(novel) + 1)
    return targets


def mean_probability(votes: Sequence[Regression], power_bchw: Tensor) -> Tensor:
    """Return the votes' weighted mean probabilities (B, r + 1, h, w); a target's mean is over those that know it."""
    weight_v = power_bchw.new_ones(len(votes))
    weight_v[-1] = ALL_SHOTS
    probability = torch.stack([vote.probability(power_bchw) for vote in votes])  # (V, B, r + 1, h, w)
    known = weight_v @ torch.stack([vote.known for vote in votes]).float()  # (r + 1,)
    return torch.einsum("v,vbrhw->brhw", weight_v, probability) / known[:, None, None]
