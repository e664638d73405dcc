"""Prototypes of chosen positions: means, the prior by the most similar position (PFENet), and self-support (SSP).

Self-support makes prototypes of the positions of the query at which a first prediction is confident.
"""

from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.tensors.mask import Mask, Positions, computed_together, positions_of, shapes_are_fixed, touched
from model.tensors.ops import in_float32, joined, min_max

PIECE = 256  # positions whose attention is computed at a time, at least
MAX_PAIRS = 2**25  # of positions and keys, whose attention a GPU holds at a time
FALLBACK = 12  # positions taken by rank where no position qualifies
COSINE_EPS = 1e-7
TEMPERATURE = 10.0  # of the cosines, as logits
LENGTH_EPS = 1e-8  # smallest norm in a cosine
CONFIDENT_FOREGROUND, CONFIDENT_BACKGROUND = 0.7, 0.6  # probabilities above which a position is confident
OWN_FOREGROUND = 0.5  # share of the query's own prototype in the foreground
OWN_BACKGROUND = 0.3  # share of the query's global prototype in the background; the rest is the adaptive one
BACKGROUND_CHANNEL, FOREGROUND_CHANNEL = 0, 1  # of two-class logits


def choose(chosen_bl: Tensor, ranking_bl: Tensor, first_rank: int = 0) -> Tensor:
    """Return weights (B, L): 1 at the chosen positions, or at ``FALLBACK`` positions by rank where none is chosen.

    ``ranking_bl`` has the highest rank first; the fallback begins at ``first_rank``.
    """
    take = min(FALLBACK, ranking_bl.shape[1])
    chosen = chosen_bl.float()
    by_rank = torch.zeros_like(chosen).scatter(1, ranking_bl[:, first_rank : first_rank + take], 1.0)
    return torch.where(chosen_bl.any(1, keepdim=True), chosen, by_rank)


def mean_over(feature_bcl: Tensor, weight_bl: Tensor) -> Tensor:
    """Return the weighted mean of features over positions, (B, C)."""
    weight = weight_bl.to(feature_bcl.dtype)
    total = weight.unsqueeze(1) @ feature_bcl.transpose(1, 2)  # whose gradient is laid out position after position
    return total.squeeze(1) / weight.sum(1, keepdim=True)


@torch.no_grad()
@in_float32
def object_directions(feature_nchw: Tensor, mask: Mask) -> Tensor:
    """Return the unit features at the positions that see something of the objects, (n, m, C); zeros where fewer."""
    positions = mask.positions(feature_nchw.shape[-2:], touched)
    rows_nmc = positions.padded(feature_nchw.flatten(2).transpose(1, 2))
    return F.normalize(rows_nmc, dim=2, eps=COSINE_EPS)


@torch.no_grad()
@in_float32
def greatest_cosine(query_bchw: Tensor, directions_bmc: Tensor) -> Tensor:
    """Return the cosine of each query position to the most similar one of an object, (B, h, w) (PFENet).

    Positions outside the object count as zero vectors, as published; a mask value between 0 and 1 does not change a
    cosine.
    """
    query_bcl = query_bchw.flatten(2)
    length_bl = query_bcl.norm(dim=1).clamp(min=COSINE_EPS)
    outside_b1c = directions_bmc.new_zeros(len(directions_bmc), 1, directions_bmc.shape[2])
    if directions_bmc.shape[1] < query_bcl.shape[2]:
        directions_bmc = torch.cat([directions_bmc, outside_b1c], dim=1)
    greatest_bl = (directions_bmc @ query_bcl).amax(1) / length_bl
    return greatest_bl.unflatten(1, query_bchw.shape[-2:])


def prior(query_bchw: Tensor, directions_bmc: Tensor) -> Tensor:
    """Return PFENet's prior by a shot, (B, h, w): the greatest cosine, stretched to 0..1; 0 for an empty mask."""
    greatest_bhw = greatest_cosine(query_bchw, directions_bmc)
    return min_max(greatest_bhw.flatten(1), COSINE_EPS).view_as(greatest_bhw)


@in_float32
def similarity(feature_bchw: Tensor, foreground: Tensor, background: Tensor) -> Tensor:
    """Return scaled cosines of every position to two prototypes as logits (B, 2, h, w), background first.

    Prototypes are (B, C), or (B, C, h, w) for one per position.
    """
    length, cosines = _length(feature_bchw), []
    for prototype in (background, foreground):
        if prototype.ndim == 2:  # a matrix product, without a map of feature size
            inner = (feature_bchw.flatten(2).transpose(1, 2) @ prototype.unsqueeze(2)).view_as(length)
            cosines.append(inner / (length * _length(prototype)[:, None, None]))
        else:
            cosines.append((feature_bchw * prototype).sum(1) / (length * _length(prototype)))
    return TEMPERATURE * torch.stack(cosines, dim=1)


def _length(vectors: Tensor) -> Tensor:
    return torch.linalg.vector_norm(vectors, dim=1).clamp_min(LENGTH_EPS)


class Attended(NamedTuple):
    """The attention of B episodes over their confident background, unnormalised: sum_j w_ij F_j and sum_j w_ij."""

    inside: Tensor  # the confident background N, (B, L) bool
    values: Tensor  # (B, L, C)
    weights: Tensor  # (B, L, 1)

    def part(self, which: slice) -> "Attended":
        """Return the attention of some of the episodes."""
        return Attended(self.inside[which], self.values[which], self.weights[which])


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
    background_bl, foreground_bl = logits_b2hw.detach().softmax(1).flatten(2).unbind(1)
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
    return choose(p_bl > threshold, p_bl.argsort(dim=1, descending=True, stable=True))


def with_own(support_fg: Tensor, query: SelfPrototypes) -> tuple[Tensor, Tensor]:
    """Return foreground (B, C) and background (B, C, h, w) prototypes after a self-support step."""
    foreground = (1 - OWN_FOREGROUND) * support_fg + OWN_FOREGROUND * query.foreground
    background = OWN_BACKGROUND * query.background[:, :, None, None] + (1 - OWN_BACKGROUND) * query.adaptive
    return foreground, background


def _attend(feature_blc: Tensor, inside_bl: Tensor, before: Attended | None) -> Attended:
    """Return the attention of all positions over the chosen ones.

    Pairs have the same weight in every step. Where fewer positions entered or left than the set has, only theirs are
    computed.
    """
    changes = []
    if before is not None and not shapes_are_fixed():
        changes = [inside_bl & ~before.inside, before.inside & ~inside_bl]
    sets = positions_of(inside_bl, *changes)
    parts: list[tuple[Tensor, Tensor]] = []
    size = len(feature_blc) if computed_together(feature_blc) else 1
    for first in range(0, len(feature_blc), size):
        group = slice(first, first + size)
        now, *changed = (positions[group] for positions in sets)
        feature = feature_blc[group]
        unit = F.normalize(feature, dim=2)
        if before is not None and changed and sum(max(positions.counts) for positions in changed) < max(now.counts):
            parts.append(_continued(before.part(group), unit, feature, changed))
        else:
            parts.append(_sums(unit, feature, now))
    values, weights = (joined(pieces, dim=0) for pieces in zip(*parts))
    return Attended(inside_bl, values, weights)


def _continued(
    before: Attended, unit_blc: Tensor, feature_blc: Tensor, changed: list[Positions]
) -> tuple[Tensor, Tensor]:
    """Return the sums of an earlier step, with those of the positions that entered and without those that left."""
    (values, weights), (left_values, left_weights) = (_sums(unit_blc, feature_blc, positions) for positions in changed)
    return before.values + values - left_values, before.weights + weights - left_weights


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
    if not unit_blc.is_cpu or torch.compiler.is_compiling():  # each number of pieces would be compiled anew
        rows = max(MAX_PAIRS // (len(key) * max(key.shape[2], 1)), PIECE)
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
