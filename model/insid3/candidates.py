"""The supports' prototype, and the patches of the target that match them in both directions (sections 4 and 5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.common.ops import unit
from model.common.training_free import mask_on_grid
from model.insid3.positional_basis import PositionalBasis, debiased

FORWARD_ABOVE = 0.0  # cosine to the prototype from which a patch resembles it
FORWARD_QUANTILE = 0.9  # where no patch does, those above this quantile count
BLOCK_ELEMENTS = 2**22  # of the cosines between two images that exist at a time, 16 MiB


@dataclass(frozen=True)
class Reference:
    """A support: its debiased features D(F_k) (n, C), and the cells of its mask, bool (n,)."""

    features: Tensor
    mask: Tensor

    @staticmethod
    def of(features_chw: Tensor, mask_hw: Tensor, basis: PositionalBasis | None) -> Reference | None:
        """Return a support with unit features (C, h, w) and a mask (H, W); None if the mask is empty."""
        mask = mask_on_grid(mask_hw, features_chw.shape[1:])
        return Reference(debiased(features_chw.flatten(1).T, basis), mask.flatten()) if mask.any() else None


@dataclass(frozen=True)
class Candidates:
    """How the target's n patches match K references.

    Attributes:
        prototype: (C,), the mean over references of the mean over their masks, of length 1.
        sim_forward: (n,), cosine of each patch to the prototype.
        forward: bool (n,), patches that resemble the prototype.
        best_ref: K of (n,), int64: the most similar patch of each reference, row-major.
        votes: (n,), int64: references whose most similar patch lies inside their mask.
        candidates: bool (n,): forward, and voted for by at least half of the references.
    """

    prototype: Tensor
    sim_forward: Tensor
    forward: Tensor
    best_ref: list[Tensor]
    votes: Tensor
    candidates: Tensor


def find_candidates(target_nc: Tensor, references: Sequence[Reference]) -> Candidates:
    """Return the candidates among the target's debiased features (n, C), from at least one reference."""
    means = torch.stack([r.features[r.mask].mean(0) for r in references])
    prototype = unit(means.mean(0), dim=0)
    sim_forward = target_nc @ prototype
    forward = sim_forward > FORWARD_ABOVE
    if not forward.any():
        forward = sim_forward > sim_forward.quantile(FORWARD_QUANTILE)
    best_ref = [_most_similar(target_nc, r.features) for r in references]
    votes = torch.stack([r.mask[best] for r, best in zip(references, best_ref)]).sum(0)
    candidates = forward & (votes >= (len(references) + 1) // 2)
    return Candidates(prototype, sim_forward, forward, best_ref, votes, candidates)


def _most_similar(target_nc: Tensor, reference_mc: Tensor) -> Tensor:
    """Return for each target patch the first reference patch of largest cosine, (n,) int64, in blocks of patches."""
    rows = max(1, BLOCK_ELEMENTS // len(reference_mc))
    return torch.cat([(block @ reference_mc.T).argmax(1) for block in target_nc.split(rows)])
