"""Self-support (SSP): prototypes of a query from the positions at which a first prediction is confident."""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.tensors.groups import groups_of
from model.tensors.mask import Positions, positions_of
from model.tensors.ops import choose, in_float32, joined, mean_over

PIECE = 256  # positions whose attention is computed at a time, at least
MAX_PAIRS = 2**25  # of positions and keys, whose attention a GPU holds at a time
TEMPERATURE = 10.0  # of the cosines, as logits
LENGTH_EPS = 1e-8  # smallest norm in a cosine
CONFIDENT_FOREGROUND, CONFIDENT_BACKGROUND = 0.7, 0.6  # probabilities above which a position is confident
OWN_FOREGROUND = 0.5  # share of the query's own prototype in the foreground
OWN_BACKGROUND = 0.3  # share of the query's global prototype in the background; the rest is the adaptive one


@in_float32
def similarity(feature_bchw: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """Return scaled cosines of every position to two prototypes as logits (B, 2, h, w), background first.

    Prototypes are (B, C), or (B, C, h, w) for one per position.
    """
    length_bhw = _length(feature_bchw)
    cosines = []
    for prototype in (background, foreground):
        if prototype.ndim == 2:  # a matrix product, without a map of feature size
            feature_blc = feature_bchw.flatten(2).transpose(1, 2)
            inner = (feature_blc @ prototype.unsqueeze(2)).view_as(length_bhw)
            prototype_length = _length(prototype)[:, None, None]
        else:
            inner = (feature_bchw * prototype).sum(1)
            prototype_length = _length(prototype)
        cosines.append(inner / (length_bhw * prototype_length))
    return TEMPERATURE * torch.stack(cosines, dim=1)


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1).clamp_min(LENGTH_EPS)


class Attended(NamedTuple):
    """The attention of B episodes over their confident background, unnormalised: sum_j w_ij F_j and sum_j w_ij."""

    inside: Tensor  # the confident background N, (B, L) bool
    values: Tensor  # (B, L, C)
    weights: Tensor  # (B, L, 1)


class SelfPrototypes(NamedTuple):
    """Prototypes of a query from its own confident positions."""

    foreground: Tensor  # SSFP, (B, C)
    background: Tensor  # SSBP, (B, C)
    adaptive: Tensor  # ASBP, a background prototype for every position, (B, C, h, w)
    attended: Attended  # from which the next step continues


@in_float32
def self_support(feature_bchw: Tensor, logits_b2hw: Tensor, before: SelfPrototypes | None = None) -> SelfPrototypes:
    """Return a query's own prototypes from its logits; the choice of positions carries no gradient.

    ``before`` is the result of an earlier step on the same features, and only saves computation.
    """
    feature = feature_bchw.flatten(2)  # (B, C, L)
    probability = logits_b2hw.detach().softmax(1)
    background_bl, foreground_bl = probability.flatten(2).unbind(1)
    background = _confident(background_bl, CONFIDENT_BACKGROUND)  # N, (B, L)
    foreground = _confident(foreground_bl, CONFIDENT_FOREGROUND)  # A, (B, L)
    attended = _attend(feature.transpose(1, 2), background.bool(), before and before.attended)
    adaptive = (attended.values / attended.weights).transpose(1, 2)  # (B, C, L)
    return SelfPrototypes(
        foreground=mean_over(feature, foreground),
        background=mean_over(feature, background),
        adaptive=adaptive.unflatten(2, feature_bchw.shape[-2:]),
        attended=attended,
    )


def _confident(p_bl: Tensor, threshold: float) -> Tensor:
    """Return the positions of a probability above a threshold, or of the greatest ones where there are none."""
    ranking = p_bl.argsort(dim=1, descending=True, stable=True)
    return choose(p_bl > threshold, ranking)


def with_own(support_fg: Tensor, query: SelfPrototypes) -> tuple[Tensor, Tensor]:
    """Return foreground (B, C) and background (B, C, h, w) prototypes after a self-support step."""
    foreground = (1 - OWN_FOREGROUND) * support_fg + OWN_FOREGROUND * query.foreground
    own_background = query.background[:, :, None, None]
    background = OWN_BACKGROUND * own_background + (1 - OWN_BACKGROUND) * query.adaptive
    return foreground, background


def _attend(feature_blc: Tensor, inside_bl: Tensor, before: Attended | None) -> Attended:
    """Return the attention of all positions over the chosen ones.

    Pairs have the same weight in every step. Where fewer positions entered or left than the set has, only theirs are
    computed.
    """
    unit_blc = F.normalize(feature_blc, dim=2)
    if before is None:
        [chosen] = positions_of(inside_bl)
        changed = None
    else:
        chosen, *changed = positions_of(inside_bl, inside_bl & ~before.inside, before.inside & ~inside_bl)
    parts: list[tuple[Tensor, Tensor]] = []
    for group in groups_of(feature_blc):
        feature = feature_blc[group]
        unit = unit_blc[group]
        now = chosen[group]
        if before is not None and changed is not None:
            entered, left = (positions[group] for positions in changed)
            if max(entered.counts) + max(left.counts) < max(now.counts):
                more_values, more_weights = _sums(unit, feature, entered)
                less_values, less_weights = _sums(unit, feature, left)
                values = before.values[group] + more_values - less_values
                weights = before.weights[group] + more_weights - less_weights
                parts.append((values, weights))
                continue
        parts.append(_sums(unit, feature, now))
    values, weights = (joined(pieces) for pieces in zip(*parts))
    return Attended(inside_bl, values, weights)


def _sums(unit_blc: Tensor, feature_blc: Tensor, keys: Positions) -> tuple[Tensor, Tensor]:
    """Return sum_j w_ij F_j, (B, L, C), and sum_j w_ij, (B, L, 1), over the chosen j; w_ij = exp(2 cos(F_i, F_j)).

    Some positions are processed at a time, and again in the backward pass: the matrix of all pairs is never in memory.
    """
    key = keys.padded(unit_blc).transpose(1, 2)
    value = keys.padded(feature_blc)
    is_key = keys.is_row()  # a row that is not chosen has no weight

    def weighted_sums(unit: Tensor) -> tuple[Tensor, Tensor]:
        weight = (2.0 * unit @ key).exp()
        if is_key is not None:
            weight = weight * is_key.unsqueeze(1)
        return weight @ value, weight.sum(2, keepdim=True)

    rows = PIECE
    if not unit_blc.is_cpu:
        pairs_of_row = max(len(key) * key.shape[2], 1)
        rows = max(MAX_PAIRS // pairs_of_row, PIECE)
    recomputes = torch.is_grad_enabled() and unit_blc.requires_grad
    pieces = []
    for unit in unit_blc.split(rows, dim=1):
        if recomputes:
            sums = checkpoint(partial(weighted_sums, unit), use_reentrant=False, preserve_rng_state=False)
        else:
            sums = weighted_sums(unit)
        pieces.append(sums)
    values, weights = (joined(each, dim=1) for each in zip(*pieces))
    return values, weights
