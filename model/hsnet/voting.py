"""HSNet's K shots: each predicts by itself, and the predictions vote."""

from __future__ import annotations

import torch
from torch import Tensor

SHARE = 0.5  # of the image's largest number of votes, from which a pixel is foreground


def count_votes(shot_pred_bkhw: Tensor) -> Tensor:
    """Return the number of shots that say foreground, (B, H, W) int64, from predictions of 0 and 1."""
    return shot_pred_bkhw.long().sum(1)


def needed_votes(votes_bhw: Tensor) -> Tensor:
    """Return the votes that make a pixel foreground, (B,) int64: half of the image's largest number, at least one.

    As published, the measure is the largest number in this image and not K: with 2 of 5 votes at most, one is enough.
    """
    largest = votes_bhw.flatten(1).amax(1).clamp(min=1)
    return (SHARE * largest).ceil().long()


def vote(shot_logits_bk2hw: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits (B, 2, H, W) whose larger channel is the voted class, and the votes (B, H, W).

    The vote alone decides; pixels with equal votes are ranked by the shots' mean foreground probability, which is below
    1 and makes no tie possible.
    """
    votes = count_votes(shot_logits_bk2hw[:, :, 1] > shot_logits_bk2hw[:, :, 0])
    probability = shot_logits_bk2hw.float().softmax(2)[:, :, 1].mean(1)  # (B, H, W)
    margin = votes - needed_votes(votes)[:, None, None] + probability
    return torch.stack([torch.zeros_like(margin), margin], dim=1), votes
