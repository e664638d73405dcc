"""DIaM: a linear classifier of base and novel classes, fitted to the supports and to each query's own pixels.

p = softmax(W x + b) over background, N base and n novel classes. W starts from the base learner's rows and the novel
classes' unit prototypes; 100 steps of gradient descent lower 100 CE + KL + H + 100 D for each query anew:
CE   cross-entropy of the supports, base classes counted as background, cells of the background with a small weight
KL   of the query's mean p to its prior pi, the mean p at the start and again after step 10
H    entropy of p on the query
D    of the query's p, novel classes counted as background, to the base learner's own probabilities
Source: DIaM, A Strong Baseline for Generalized Few-Shot Semantic Segmentation, CVPR 2023.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.linear import LinearHead
from model.common.ops import on_cells, resize
from model.common.with_base_learner import WithBaseSettings
from model.contract import register
from model.episode import IGNORE
from model.generalised import EPS, GeneralisedModel

BACKGROUND_WEIGHT = (0.01, 0.15)  # in CE, with one shot and with several


@dataclass
class DIaMSettings(WithBaseSettings):
    """DIaM's own settings; ``config/model/diam.yaml`` explains them."""

    iterations: int = field(default=100, metadata={"low": 0})
    lr: float = field(default=0.00125, metadata={"low": 0})
    loss_weights: list[float] = field(
        default_factory=lambda: [100.0, 1.0, 1.0, 100.0], metadata={"low": 0, "length": (4, 4)}
    )
    prior_update_at: list[int] = field(default_factory=lambda: [10], metadata={"low": 1})
    learn_base: bool = True


class State(NamedTuple):
    """The supports' cells, and the classifier that every query starts from."""

    start: LinearHead  # (M, C)
    base: LinearHead  # (N + 1, C)
    x: Tensor  # (m, C) cells that are not 255
    y: Tensor  # (m,) int64 channels
    weight: Tensor  # (m,) of each cell in CE


@register("diam")
class DIaM(GeneralisedModel):
    """A classifier fitted to each query; with 0 iterations the plain floor, prototypes beside the base classifier."""

    Settings = DIaMSettings
    title = "DIaM"
    settings: DIaMSettings

    @torch.inference_mode(False)  # what it returns enters the graph of every query
    @torch.no_grad()
    def fit_features(self, features: Sequence[Tensor], labels: Sequence[Tensor]) -> State:
        """Return supports and start; a novel class without a cell is never predicted."""
        base, x = self.base, torch.cat([part.permute(0, 2, 3, 1).flatten(0, 2) for part in features])
        y = torch.cat([on_cells(y, x.shape[-2:]).flatten() for y, x in zip(labels, features, strict=True)])
        known = (y != IGNORE).nonzero()[:, 0]
        x, y = x[known].float(), y[known].long()
        own = y == len(base.bias) + torch.arange(len(features), device=y.device)[:, None]  # of each class, (n, m)
        weight = torch.cat([base.weight, F.normalize(own.float() @ x, dim=1, eps=EPS)])
        bias = torch.cat([base.bias, base.bias.new_zeros(len(own)).masked_fill(~own.any(1), float("-inf"))])
        background = BACKGROUND_WEIGHT[max(map(len, features)) > 1]
        return State(LinearHead(weight, bias), base, x, y, torch.where(y == 0, background, 1.0))

    def label(self, features_bchw: Tensor, valid_bhw: Tensor, state: State) -> Tensor:
        """Return the logarithms of each query's probabilities by its own classifier."""
        pairs = zip(features_bchw, valid_bhw, strict=True)
        maps = [adapt(x, valid, state, self.settings).logits(x[None]).softmax(1) for x, valid in pairs]
        return resize(torch.cat(maps), valid_bhw.shape[-2:]).clamp(min=EPS).log()


@torch.inference_mode(False)
@torch.enable_grad()
def adapt(x_chw: Tensor, valid_hw: Tensor, state: State, settings: DIaMSettings) -> LinearHead:
    """Return the classifier of one query by its features and the pixels (S, S) that are no padding."""
    x = x_chw.flatten(1).T[on_cells(valid_hw, x_chw.shape[-2:]).flatten().bool()].clone()  # (L, C)
    supports, count, first = state.x.clone(), len(x) + EPS, len(state.base.bias)
    own = torch.softmax(x @ state.base.weight.T + state.base.bias, 1)  # of the base learner, (L, N + 1)
    head = LinearHead(*(part.clone().requires_grad_() for part in state.start))
    learnt = slice(None if settings.learn_base else first, None)
    for step in range(settings.iterations):
        # (L, M) and (m, M).
        p, of_supports = (torch.softmax(cells @ head.weight.T + head.bias, 1) for cells in (x, supports))
        true = torch.where(state.y == 0, of_supports[:, :first].sum(1), of_supports.gather(1, state.y[:, None])[:, 0])
        share = p.sum(0) / count
        if step in (0, *settings.prior_update_at):
            prior = share.detach()  # pi
        as_base = torch.cat([p[:, :1] + p[:, first:].sum(1, keepdim=True), p[:, 1:first]], 1)
        ce = -(state.weight * torch.log(true + EPS)).sum() / max(len(supports), 1)
        kl = (share * torch.log(EPS + share / (prior + EPS))).sum()
        entropy = -(p * torch.log(p + EPS)).sum() / count
        distillation = (as_base * torch.log(EPS + as_base / (EPS + own))).sum() / count
        terms = zip(settings.loss_weights, (ce, kl, entropy, distillation))
        loss = torch.stack([weight * term for weight, term in terms]).sum()
        for part, gradient in zip(head, torch.autograd.grad(loss, head)):
            part.data[learnt] -= settings.lr * gradient[learnt]
    return LinearHead(*(part.detach() for part in head))
