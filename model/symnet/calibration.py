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

import torch
from torch import Tensor

from model.common.base_learner import BaseLearner
from model.common.fixed_shapes import Objects
from model.common.ops import background_mask, foreground_mask, in_float32, masked_mean, mean_over_shots, resize
from model.common.prototype import BACKGROUND_CHANNEL, FOREGROUND_CHANNEL

RARE = 0.01  # added to means, so that rare classes have little influence
EPS = 1e-6  # smallest weight of a mean
LATTICE = 2  # step in rows and columns between the sampled positions of a support


def positions(label_bhw: Tensor, size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the positions inside supports' objects and those sampled, (B, h, w) bool each.

    Sampled are a lattice without ignored positions, and every position of an object that it misses.
    """
    inside = resize(foreground_mask(label_bhw), size)[:, 0] >= 0.5
    background = resize(background_mask(label_bhw), size)[:, 0] >= 0.5
    rows, columns = (torch.arange(side, device=inside.device) % LATTICE == 0 for side in size)
    lattice = (rows[:, None] & columns).expand_as(inside)
    is_missed = ~(inside & lattice).flatten(1).any(1)  # (B,)
    on_lattice = lattice & (inside | background)
    missed = inside & is_missed[:, None, None]
    return inside, on_lattice | missed


@torch.no_grad()
def shot_means(
    base_learner: BaseLearner, support_f4: Tensor, label_bhw: Tensor, hidden_b: Tensor | None, objects: Objects
) -> Tensor:
    """Return the means over object and background of B supports, a and d, (B, 2, N + 1) float32; 0 where one has none.

    ``objects`` choose ``sampled``.
    """
    size = support_f4.shape[-2:]
    sampled = objects.on(size).chosen["sampled"]
    inside, _ = positions(label_bhw, size)
    rows = base_learner.hidden_at(support_f4, sampled)  # (n, 512), image by image
    logits = base_learner.logits(rows[:, :, None, None])[:, :, 0, 0]  # (n, N + 1)
    image = sampled.flat // sampled.inside.shape[1]  # of every row
    probability = base_probability(logits, None if hidden_b is None else hidden_b[image])

    means = []
    for mask in (inside, ~inside):
        chosen = mask.flatten(1) & sampled.inside
        counted = probability * torch.cat(sampled.rows(chosen)).unsqueeze(1)
        total = probability.new_zeros(len(label_bhw), probability.shape[1]).index_add_(0, image, counted)
        means.append(total / chosen.sum(1).clamp(min=1).unsqueeze(1))
    return torch.stack(means, dim=1)


def means_over_shots(means_bk2n: Tensor, weight_bk: Tensor) -> Tensor:
    """Return the weighted mean over shots, (B, 2, N + 1); a shot without an object does not count in its mean a."""
    weight_bk2 = weight_bk.unsqueeze(2) * (means_bk2n.sum(3) > 0)
    weight_bk2 = weight_bk2 / weight_bk2.sum(1, keepdim=True).clamp(min=EPS)
    return torch.stack([mean_over_shots(means_bk2n[:, :, i], weight_bk2[..., i]) for i in range(2)], dim=1)


@in_float32
def base_probability(base_logits: Tensor, hidden: Tensor | None = None) -> Tensor:
    """Return the probabilities of all channels, (B, N + 1, ...), of logits of that shape.

    Channels ``hidden`` (B,), 0 for none, are unknown: in training that of the query's object, which imitates a novel
    class.
    """
    if hidden is not None:
        channel = torch.arange(base_logits.shape[1], device=base_logits.device)
        hide = (channel == hidden.unsqueeze(1)) & (channel > 0)  # (B, N + 1)
        further = [1] * (base_logits.ndim - 2)
        base_logits = base_logits.masked_fill(hide.view(*hide.shape, *further), float("-inf"))
    return base_logits.softmax(dim=1)


@in_float32
def with_likelihood(meta_b2hw: Tensor, base_bnhw: Tensor, support_b2n: Tensor, hidden_b: Tensor | None) -> Tensor:
    """Return final logits (B, 2, h, w) by ``likelihood`` from meta and base logits and the supports' means.

    The base learner's term carries no gradient, so the meta output learns to be right together with it.
    """
    with torch.no_grad():
        probability = base_probability(base_bnhw, hidden_b)
        object_b1hw = meta_b2hw.softmax(1)[:, FOREGROUND_CHANNEL:]
        of_query = [masked_mean(probability, weight, EPS) for weight in (object_b1hw, 1 - object_b1hw)]
        query_b2n = torch.stack(of_query, dim=1)
        known = support_b2n.sum(2, keepdim=True) > 0
        a, d = torch.where(known, (support_b2n + query_b2n) / 2, query_b2n).unbind(1)
        log_ratio = ((a + RARE) / (d + RARE)).log()  # of each class, (B, N + 1)
        evidence = torch.einsum("bnhw,bn->bhw", probability, log_ratio)  # r
    background, foreground = meta_b2hw[:, BACKGROUND_CHANNEL], meta_b2hw[:, FOREGROUND_CHANNEL]
    return torch.stack([background, foreground + evidence], dim=1)
