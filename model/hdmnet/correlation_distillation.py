"""HDMNet's correlation distillation: the mask teaches the coarsest correlation map, and each map the next finer one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import foreground_mask, in_float32

EPS = 1e-12  # added to probabilities before their logarithm


@in_float32
def divergence(teacher_bl: Tensor, student_bl: Tensor) -> Tensor:
    """Return the mean over episodes of KL(teacher || student), both distributions over positions."""
    return (teacher_bl * ((teacher_bl + EPS).log() - (student_bl + EPS).log())).sum(1).mean()


def true_distribution(label_bhw: Tensor, size: Sequence[int]) -> Tensor:
    """Return the uniform distribution over the cells that see only foreground, (B, h w); over all cells if none does.

    A cell sees the pixels that a bilinear resize reads for it. Without such a cell the published teacher consists of
    rounding errors of a large number, which cannot be reproduced.
    """
    rest = _resized(1 - foreground_mask(label_bhw), size).flatten(1)
    full = (rest == 0).float()
    full = torch.where(full.any(1, keepdim=True), full, torch.ones_like(full))
    return full / full.sum(1, keepdim=True)


def correlation_distillation(correlation: list[Tensor], label_bhw: Tensor) -> Tensor:
    """Return the mean divergence over levels.

    Args:
        correlation: maps of logits (B, h_i, w_i), finest first.
        label_bhw: the query's label in {0, 1, 255}.
    """
    total, teacher = correlation[0].new_zeros((), dtype=torch.float32), None
    for student in reversed(correlation):
        size = student.shape[1:]
        if teacher is None:
            target = true_distribution(label_bhw, size)
        else:
            target = _resized(teacher.detach().float().unsqueeze(1), size).flatten(1).softmax(1)
        total = total + divergence(target, student.float().flatten(1).softmax(1))
        teacher = student
    return total / len(correlation)


def _resized(map_b1hw: Tensor, size: Sequence[int]) -> Tensor:
    """Return a map resized bilinearly without aligned corners, (B, 1, *size)."""
    return F.interpolate(map_b1hw, size=tuple(size), mode="bilinear", align_corners=False)
