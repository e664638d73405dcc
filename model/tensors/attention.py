"""The attention of a map's positions over some of them, without the matrix of all pairs in memory."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.tensors.batching import groups_of
from model.tensors.frozen import half_type
from model.tensors.mask import Positions, positions_of
from model.tensors.ops import FP16_SHARE, joined

EPS = 1e-12  # the least length of a vector
PIECE = 256  # positions whose attention is computed at a time, at least
KEPT_PAIRS = 2**24  # of a map on a CPU, whose attention the backward pass does not compute again
CPU_PAIRS, GPU_PAIRS = 2**22, 2**25  # of positions and keys, whose attention is computed at a time


class Attention(NamedTuple):
    """The attention of B maps over their keys, w_ij = exp(2 cos(F_i, F_j)), before its division."""

    unit: Tensor  # F_i / |F_i|, (B, L, C), in the precision of the products
    counted: Tensor  # [F_j, 1], times ``FP16_SHARE``, (B, L, C + 1), in that precision
    keys: Tensor  # the positions j, (B, L) bool
    sums: Tensor  # sum_j w_ij F_j, and last sum_j w_ij, times ``FP16_SHARE``, (B, L, C + 1) float32

    @property
    def mean(self) -> Tensor:
        """The mean of the keys' features as each position weights them, (B, L, C)."""
        total, weight = self.sums.split([self.sums.shape[2] - 1, 1], dim=2)
        return total * weight.reciprocal()


def attend(feature_blc: Tensor, keys_bl: Tensor, before: Attention | None = None) -> Attention:
    """Return the attention of all positions over some, ``keys_bl`` bool.

    ``before`` is that of the same features over other keys: as a pair has the same weight in both, only the pairs of
    those that came or went are computed, where they are fewer than the keys of every map. The products have the
    precision of the pass, the sums are float32.
    """
    if before is None:
        unit, counted = _operands(feature_blc)
        new = came = went = positions_of(keys_bl)[0]
    else:
        unit, counted = before.unit, before.counted
        new, came, went = positions_of(keys_bl, keys_bl & ~before.keys, before.keys & ~keys_bl)
    parts: list[Tensor] = []
    for group in groups_of(feature_blc):
        sums_over = partial(_weighted_sums, unit[group], counted[group])
        if before is None or max(came[group].counts) + max(went[group].counts) >= min(new[group].counts):
            parts.append(sums_over(new[group]))
        else:
            parts.append(before.sums[group] + sums_over(came[group]) - sums_over(went[group]))
    return Attention(unit, counted, keys_bl, joined(parts))


def _operands(feature_blc: Tensor) -> tuple[Tensor, Tensor]:
    """Return F / |F|, (B, L, C), and ``FP16_SHARE`` [F, 1], (B, L, C + 1), in the precision of the pass."""
    precision = half_type(feature_blc.device) or feature_blc.dtype
    length = feature_blc.norm(dim=2, keepdim=True).clamp(min=EPS)
    unit = feature_blc * length.reciprocal()
    counted = F.pad(FP16_SHARE * feature_blc, (0, 1), value=FP16_SHARE)
    return unit.to(precision), counted.to(precision)


def _weighted_sums(unit_blc: Tensor, counted_blc: Tensor, keys: Positions) -> Tensor:
    """Return sum_j w_ij [F_j, 1] over the keys, (B, L, C + 1), some positions i at a time.

    The backward pass computes their weights again, but those of a CPU of up to ``KEPT_PAIRS``.
    """
    key = keys.padded(unit_blc).transpose(1, 2)
    value = keys.padded(counted_blc)  # a row that is none has zeros, also as its last number

    def weighted_sum(unit: Tensor) -> Tensor:
        return ((2.0 * unit @ key).exp() @ value).float()

    compute: Callable[[Tensor], Tensor] = weighted_sum
    is_kept = unit_blc.is_cpu and unit_blc.shape[1] * key.shape[2] <= KEPT_PAIRS
    if torch.is_grad_enabled() and unit_blc.requires_grad and not is_kept:
        compute = partial(checkpoint, weighted_sum, use_reentrant=False, preserve_rng_state=False)
    pairs = CPU_PAIRS if unit_blc.is_cpu else GPU_PAIRS
    at_a_time = max(pairs // max(len(key) * key.shape[2], 1), PIECE)
    return joined([compute(unit) for unit in unit_blc.split(at_a_time, dim=1)], dim=1)
