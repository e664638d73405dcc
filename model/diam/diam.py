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

from model.contract import register
from model.episode import IGNORE
from model.kinds.generalised import EPS, Cells, GeneralisedModel
from model.kinds.with_base_learner import WithBaseSettings
from model.parts.linear import LinearHead
from model.tensors.cells import on_cells
from model.tensors.ops import resize

PRIOR_UPDATES = (0, 10)  # steps at which the prior pi is computed
BACKGROUND_WEIGHT, BACKGROUND_WEIGHT_OF_SEVERAL = 0.01, 0.15  # in CE, with one shot and with several


@dataclass
class DIaMSettings(WithBaseSettings):
    """DIaM's own settings."""

    iterations: int = field(default=100, metadata={"low": 0})  # steps of gradient descent for each query
    lr: float = field(default=0.00125, metadata={"low": 0})
    # Cross-entropy of the supports, divergence from the prior, entropy, distillation
    loss_weights: list[float] = field(
        default_factory=lambda: [100.0, 1.0, 1.0, 100.0], metadata={"low": 0, "length": (4, 4)}
    )


class Supports(NamedTuple):
    """The supports' cells, and the classifier that every query starts from."""

    start: LinearHead  # (M, C)
    base: LinearHead  # (N + 1, C)
    features_mc: Tensor  # of the m cells that are not 255
    channels_m: Tensor  # int64
    weight_m: Tensor  # of each cell in CE


@register("diam")
class DIaM(GeneralisedModel):
    """A classifier fitted to each query; with 0 iterations the plain floor, prototypes beside the base classifier."""

    Settings = DIaMSettings
    title = "DIaM"
    settings: DIaMSettings

    @torch.inference_mode(False)  # what it returns enters the graph of every query
    @torch.no_grad()
    def fit_cells(self, supports: Sequence[Cells]) -> Supports:
        """Return supports and start; a novel class without a cell is never predicted."""
        base = self.base
        features_mc = torch.cat([cells.features.permute(0, 2, 3, 1).flatten(0, 2) for cells in supports])
        channels_m = torch.cat([cells.label.flatten() for cells in supports])
        known = (channels_m != IGNORE).nonzero()[:, 0]
        features_mc = features_mc[known].float()
        channels_m = channels_m[known].long()

        novel = len(base.bias) + torch.arange(len(supports), device=channels_m.device)  # channels of the novel classes
        is_novel_nm = channels_m == novel[:, None]
        prototypes = F.normalize(is_novel_nm.float() @ features_mc, dim=1, eps=EPS)
        has_no_cell = ~is_novel_nm.any(1)
        novel_bias = base.bias.new_zeros(len(novel)).masked_fill(has_no_cell, float("-inf"))
        weight = torch.cat([base.weight, prototypes])
        bias = torch.cat([base.bias, novel_bias])
        start = LinearHead(weight, bias)
        shots = max(map(len, supports))
        background_weight = BACKGROUND_WEIGHT if shots == 1 else BACKGROUND_WEIGHT_OF_SEVERAL
        weight_m = torch.where(channels_m == 0, background_weight, 1.0)
        return Supports(start, base, features_mc, channels_m, weight_m)

    def label(self, features_bchw: Tensor, valid_bhw: Tensor, state: Supports) -> Tensor:
        """Return the logarithms of each query's probabilities by its own classifier."""
        maps = []
        for x_chw, valid_hw in zip(features_bchw, valid_bhw, strict=True):
            head = adapt(x_chw, valid_hw, state, self.settings)
            maps.append(head.logits(x_chw[None]).softmax(1))
        probability = resize(torch.cat(maps), valid_bhw.shape[-2:])
        return probability.clamp(min=EPS).log()


@torch.inference_mode(False)
@torch.enable_grad()
def adapt(x_chw: Tensor, valid_hw: Tensor, supports: Supports, settings: DIaMSettings) -> LinearHead:
    """Return the classifier of one query by its features and the pixels (S, S) that are no padding."""
    is_valid_hw = on_cells(valid_hw, x_chw.shape[-2:])
    is_valid = is_valid_hw.flatten().bool()
    query_lc = x_chw.flatten(1).T[is_valid].clone()
    support_mc = supports.features_mc.clone()
    base_ln = probabilities(query_lc, supports.base)
    head = LinearHead(*(part.clone().requires_grad_() for part in supports.start))
    for step in range(settings.iterations):
        query_p = probabilities(query_lc, head)  # (L, M)
        support_p = probabilities(support_mc, head)  # (m, M)
        if step in PRIOR_UPDATES:
            prior_m = mean_probability(query_p).detach()  # pi
        terms = loss_terms(query_p, support_p, prior_m, base_ln, supports)
        weighted = [weight * term for weight, term in zip(settings.loss_weights, terms)]
        loss = torch.stack(weighted).sum()
        for part, gradient in zip(head, torch.autograd.grad(loss, head)):
            part.data -= settings.lr * gradient
    return LinearHead(*(part.detach() for part in head))


class LossTerms(NamedTuple):
    """The terms of the loss, without their weights."""

    ce: Tensor
    kl: Tensor
    entropy: Tensor
    distillation: Tensor


def loss_terms(query_p: Tensor, support_p: Tensor, prior_m: Tensor, base_ln: Tensor, supports: Supports) -> LossTerms:
    """Return CE, KL, H and D, a number each.

    Args:
        query_p: probabilities of the query's cells, (L, M).
        support_p: those of the supports' cells, (m, M).
        prior_m: the query's prior pi.
        base_ln: the base learner's own probabilities of the query's cells, (L, N + 1).
        supports: the supports' cells.
    """
    count = len(query_p) + EPS
    first_novel = base_ln.shape[1]
    background = support_p[:, :first_novel].sum(1)
    of_channel = support_p.gather(1, supports.channels_m[:, None])[:, 0]
    true_m = torch.where(supports.channels_m == 0, background, of_channel)
    share_m = mean_probability(query_p)
    novel = query_p[:, first_novel:].sum(1, keepdim=True)
    background_l1 = query_p[:, :1] + novel
    as_base = torch.cat([background_l1, query_p[:, 1:first_novel]], 1)  # (L, N + 1)
    likelihood = supports.weight_m * torch.log(true_m + EPS)
    ce = -likelihood.sum() / max(len(support_p), 1)
    to_prior = torch.log(EPS + share_m / (prior_m + EPS))
    kl = (share_m * to_prior).sum()
    information = query_p * torch.log(query_p + EPS)
    entropy = -information.sum() / count
    to_base = torch.log(EPS + as_base / (EPS + base_ln))
    distillation = (as_base * to_base).sum() / count
    return LossTerms(ce, kl, entropy, distillation)


def probabilities(cells_lc: Tensor, head: LinearHead) -> Tensor:
    """Return the probabilities of cells, (L, M)."""
    return torch.softmax(cells_lc @ head.weight.T + head.bias, 1)


def mean_probability(p_lm: Tensor) -> Tensor:
    """Return the mean of a query's probabilities, (M,)."""
    return p_lm.sum(0) / (len(p_lm) + EPS)
