"""Losses as means over the whole batch, also when the batch is distributed over processes."""

from collections.abc import Callable

import torch
from torch import Tensor, distributed
from torch.nn import functional as F

from model.episode import IGNORE
from model.tensors.ops import in_float32, logits_at

ALPHA, GAMMA = 0.25, 2.0  # of the focal loss: weight of the object's pixels, power of what is left to a certain one
DICE_SMOOTH = 1.0  # pixels added to both sides of the ratio of the foreground's Dice coefficient


def batch_mean(total: Tensor, count: Tensor) -> Tensor:
    """Return total / count such that its gradient, averaged over processes, is that of the whole batch.

    They have different numbers of valid pixels: each divides by the mean count. It is 0 for count 0.
    """
    count = count.detach().to(total.dtype)
    if distributed.is_available() and distributed.is_initialized():
        count = count.clone()
        distributed.all_reduce(count)
        count = count / distributed.get_world_size()
    smallest = torch.finfo(total.dtype).tiny
    mean = total / count.clamp(min=smallest)
    return torch.where(count > 0, mean, total * 0)


def image_mean(loss_b: Tensor) -> Tensor:
    """Return the mean of a loss of each image over the whole batch, as ``batch_mean``."""
    return batch_mean(loss_b.sum(), loss_b.new_full((), len(loss_b)))


@in_float32
def cross_entropy(logits_bnhw: Tensor, label_bhw: Tensor, foreground_weight: float = 1.0) -> Tensor:
    """Return the mean cross-entropy over pixels that are not 255, all but background weighted as given."""
    target = label_bhw.long()
    is_valid = target != IGNORE
    weight = None
    count = is_valid.sum()
    if foreground_weight != 1:
        channel = torch.arange(logits_bnhw.shape[1], device=logits_bnhw.device)
        weight = torch.where(channel > 0, foreground_weight, 1.0).to(logits_bnhw.dtype)
        foreground = is_valid & (target != 0)
        count = count + (foreground_weight - 1) * foreground.sum()
    if torch.are_deterministic_algorithms_enabled():  # on a GPU the sum over maps has no fixed order
        logits_bnhw = logits_bnhw.movedim(1, -1).flatten(0, -2)
        target = target.flatten()
    total = F.cross_entropy(logits_bnhw, target, weight, ignore_index=IGNORE, reduction="sum")
    return batch_mean(total, count)


def mask_loss(
    logits_bnhw: Tensor, label_bhw: Tensor, rule: Callable[[Tensor, Tensor], Tensor] = cross_entropy
) -> Tensor:
    """Return the loss (a scalar, float32) of predicted masks at the size of their labels, by cross-entropy or ``rule``.

    Every mask that a method learns passes here: a change for all methods is made in one place.
    """
    return rule(logits_at(logits_bnhw, label_bhw.shape[-2:]), label_bhw)


@in_float32
def dice(logits_bnhw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return 1 - the Dice coefficient of every image and channel, (B, N), each channel by its own sigmoid.

    Pixels labelled 255 belong to no channel, but count in the denominator (as published with SCCAN).
    """
    probability = logits_bnhw.sigmoid().flatten(2)
    channels = probability.shape[1]
    is_channel = torch.stack([label_bhw == c for c in range(channels)], dim=1)
    target = is_channel.flatten(2).to(probability.dtype)
    both = (probability * target).sum(2)
    total = probability.square().sum(2) + target.sum(2)
    return 1 - 2 * both / total.clamp_min(1e-8)


def dice_loss(logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return the mean over images of the Dice losses of both classes, summed (SCCAN, HMNet)."""
    return image_mean(dice(logits_b2hw, label_bhw).sum(1))


@in_float32
def foreground_dice(logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return 1 - the Dice coefficient of the foreground, the mean over the images; pixels labelled 255 do not count."""
    probability = logits_b2hw.softmax(1)[:, 1] * (label_bhw != IGNORE)
    target = (label_bhw == 1).to(probability.dtype)
    both = (probability * target).sum((1, 2))
    total = probability.sum((1, 2)) + target.sum((1, 2))
    coefficient = (2 * both + DICE_SMOOTH) / (total + DICE_SMOOTH)
    return image_mean(1 - coefficient)


@in_float32
def focal(logits_b2hw: Tensor, label_bhw: Tensor) -> Tensor:
    """Return the foreground's focal loss (RetinaNet, ICCV 2017), each image's mean over pixels that are not 255.

    The weight of background pixels is 1 - ``ALPHA``.
    """
    margin = logits_b2hw[:, 1] - logits_b2hw[:, 0]
    target = (label_bhw == 1).to(margin.dtype)
    is_valid = label_bhw != IGNORE
    entropy = F.binary_cross_entropy_with_logits(margin, target, reduction="none")
    missing = (margin.sigmoid() - target).abs()
    weight = ALPHA * target + (1 - ALPHA) * (1 - target)
    loss = weight * missing**GAMMA * entropy * is_valid
    pixels = is_valid.sum((1, 2)).clamp(min=1)
    return image_mean(loss.sum((1, 2)) / pixels)
