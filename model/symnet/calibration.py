"""Support calibration: the supports' masks decide how the base learner's predictions are used.

The published ensemble takes any base class as evidence against the novel object. But a base learner that never saw a
horse predicts cow: in the query and in the support, whose mask shows that this is wrong. ``likelihood`` uses a base
class as evidence for or against the object, depending on the mask. With p_c(i) the probability of channel c (background
included) at position i, and a_c, d_c its means over the object and over its background,

    final = meta + [0, r],   r(i) = sum_c p_c(i) log((a_c + RARE) / (d_c + RARE)),
    a = (a_support + a_query) / 2,   d = (d_support + d_query) / 2,

where the query's means weight positions by the meta output. Cows in the support's horse then count for the object in
the query, cows in its meadow count against it. In training the episode's own class is hidden from the base learner, as
a novel class is in testing. No parameters. Cost: the base learner at every fourth position of the supports.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model.common.base_learner import BaseLearner
from model.common.fixed_shapes import Objects
from model.common.ops import background_mask, foreground_mask, in_float32, masked_mean, mean_over_shots, resize
from model.common.prototype import BACKGROUND_CHANNEL, FOREGROUND_CHANNEL

RARE = 0.01  # added to means, so that rare classes have little influence
EPS = 1e-6  # smallest weight of a mean
LATTICE = 2  # step in rows and columns between the sampled positions of a support


class BaseMeans(NamedTuple):
    """The mean probability of every channel of the base learner, (B, N + 1) float32 each; zeros where it is unknown."""

    inside: Tensor  # the supports' objects, a
    background: Tensor  # of their images, d


def positions(label_bhw: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the positions inside supports' objects and those sampled, (B, h, w) bool each.

    Sampled are a lattice without ignored positions, and every position of an object that it misses.
    """
    inside, background = (resize(mask(label_bhw), size)[:, 0] >= 0.5 for mask in (foreground_mask, background_mask))
    lattice = torch.zeros_like(inside)
    lattice[:, ::LATTICE, ::LATTICE] = True
    missed = ~(inside & lattice).flatten(1).any(1)
    return inside, lattice & (inside | background) | inside & missed[:, None, None]


@torch.no_grad()
def shot_means(
    base_learner: BaseLearner, support_f4: Tensor, label_bhw: Tensor, hidden_b: Tensor | None, objects: Objects
) -> BaseMeans:
    """Return the means over objects and background of one shot; ``objects`` choose ``sampled``."""
    size = support_f4.shape[-2:]
    sampled, (inside, _) = objects.on(size).chosen["sampled"], positions(label_bhw, size)
    rows = base_learner.hidden_at(support_f4, sampled)  # (n, 512), image by image
    logits = base_learner.logits(rows[:, :, None, None])[:, :, 0, 0]  # (n, N + 1)
    image = sampled.flat // sampled.inside.shape[1]  # of every row
    probability = base_probability(logits, None if hidden_b is None else hidden_b[image])

    def mean(mask: Tensor) -> Tensor:
        """Return the mean over the sampled positions of a mask (B, h, w)."""
        chosen = mask.flatten(1) & sampled.inside
        counted = probability * torch.cat(sampled.rows(chosen)).unsqueeze(1)
        total = probability.new_zeros(len(label_bhw), probability.shape[1]).index_add_(0, image, counted)
        return total / chosen.sum(1).clamp(min=1).unsqueeze(1)

    return BaseMeans(mean(inside), mean(~inside))


def means_over_shots(shots: Sequence[BaseMeans], weight_bk: Tensor) -> BaseMeans:
    """Return the weighted mean over shots; one without an object, or without background, does not count in its mean."""

    def mean(each: Sequence[Tensor]) -> Tensor:
        means_bkn = torch.stack(list(each), dim=1)
        weight = weight_bk * (means_bkn.sum(2) > 0)
        return mean_over_shots(means_bkn, weight / weight.sum(1, keepdim=True).clamp(min=EPS))

    return BaseMeans(*map(mean, zip(*shots)))


@in_float32
def base_probability(base_logits: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Return the probabilities of all channels, (B, N + 1, ...), of logits of that shape.

    Channels ``hidden`` (B,), 0 for none, are unknown: in training that of the query's object, which imitates a novel
    class.
    """
    if hidden is not None:
        channel = torch.arange(base_logits.shape[1], device=base_logits.device)
        hide = (channel == hidden.unsqueeze(1)) & (channel > 0)  # (B, N + 1)
        base_logits = base_logits.masked_fill(hide.view(*hide.shape, *[1] * (base_logits.ndim - 2)), float("-inf"))
    return base_logits.softmax(dim=1)


@in_float32
def with_likelihood(meta_b2hw: Tensor, base_bnhw: Tensor, support: BaseMeans, hidden_b: Tensor | None) -> Tensor:
    """Return final logits (B, 2, h, w) by ``likelihood`` from meta and base logits and the supports' means.

    The base learner's term carries no gradient, so the meta output learns to be right together with it.
    """
    with torch.no_grad():
        probability = base_probability(base_bnhw, hidden_b)
        object_b1hw = meta_b2hw.softmax(1)[:, FOREGROUND_CHANNEL:]
        means = []
        for of_support, weight in zip(support, (object_b1hw, 1 - object_b1hw)):
            of_query, known = masked_mean(probability, weight, EPS), of_support.sum(1, keepdim=True) > 0
            means.append(torch.where(known, (of_support + of_query) / 2, of_query))
        ratio = torch.einsum("bnhw,bn->bhw", probability, ((means[0] + RARE) / (means[1] + RARE)).log())
    return torch.stack([meta_b2hw[:, BACKGROUND_CHANNEL], meta_b2hw[:, FOREGROUND_CHANNEL] + ratio], dim=1)
