"""Losses of Pocket."""

from __future__ import annotations

from torch import Tensor

from model.common.ops import in_float32
from model.episode import IGNORE

SMOOTH = 1.0  # pixels added to both sides of the ratio


@in_float32
def foreground_dice(logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return 1 - the Dice coefficient of the foreground, the mean over B images; ignored pixels do not count."""
    probability = logits_b2hw.softmax(1)[:, 1] * (label_bhw != IGNORE)
    target = (label_bhw == 1).to(probability.dtype)
    both = (probability * target).sum((1, 2))
    return (1 - (2 * both + SMOOTH) / (probability.sum((1, 2)) + target.sum((1, 2)) + SMOOTH)).mean()
