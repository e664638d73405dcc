"""Support calibration: claims of the base learner in the supports' objects and background decide how it is used.

The published ensemble takes any claim of a base class as evidence against the novel object. But a base learner that
never saw a horse predicts cow: in the query and in the support, whose mask shows that this is wrong. ``likelihood``
uses a claim as evidence for or against the object, depending on the mask. With p_c(i) the probability of channel c
(background included) at position i, and a_c, d_c its means over the object and over its background,

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
from model.common.self_support import BACKGROUND_CHANNEL, FOREGROUND_CHANNEL

RARE = 0.01  # added to shares, so that rare claims have little influence
EPS = 1e-6  # smallest weight of a mean
LATTICE = 2  # step in rows and columns between the sampled positions of a support


class Shares(NamedTuple):
    """The mean probability of every channel of the base learner, (B, N + 1) float32 each; zeros where it is unknown."""

    inside: Tensor  # the supports' objects, a
    background: Tensor  # of their images, d


class Positions(NamedTuple):
    """The positions of supports' maps whose claims are read, (B, h, w) bool each."""

    inside: Tensor
    sampled: Tensor


def positions(label_bhw: Tensor, size: Sequence[int]) -> Positions:
    """Return the positions of a lattice without ignored ones, and every position of an object that it misses."""
    inside, background = (resize(mask(label_bhw), size)[:, 0] >= 0.5 for mask in (foreground_mask, background_mask))
    lattice = torch.zeros_like(inside)
    lattice[:, ::LATTICE, ::LATTICE] = True
    missed = ~(inside & lattice).flatten(1).any(1)
    return Positions(inside, lattice & (inside | background) | inside & missed[:, None, None])


@torch.no_grad()
def shot_shares(
    base_learner: BaseLearner, support_f4: Tensor, label_bhw: Tensor, unknown_b: Tensor | None, objects: Objects
) -> Shares:
    """Return the mean claims inside the objects and in the background of one shot, without ignored pixels.

    ``objects`` choose what the base learner sees, ``sampled`` (see ``positions``).
    """
    images, size = len(label_bhw), support_f4.shape[-2:]
    sampled, inside = objects.on(size).chosen["sampled"], positions(label_bhw, size).inside
    hidden = base_learner.hidden_at(support_f4, sampled)  # (n, 512), image by image
    logits = base_learner.logits(hidden[:, :, None, None])[:, :, 0, 0]  # (n, N + 1)
    image = sampled.flat // sampled.inside.shape[1]  # of every row
    claimed = claims(logits, None if unknown_b is None else unknown_b[image])

    def share(mask: Tensor) -> Tensor:
        """Return the mean claims over the sampled positions of a mask (B, h, w)."""
        chosen, count = mask.flatten(1) & sampled.inside, (mask.flatten(1) & sampled.inside).sum(1)
        counted = claimed * torch.cat(sampled.rows(chosen)).unsqueeze(1)
        total = claimed.new_zeros(images, claimed.shape[1]).index_add_(0, image, counted)
        return total / count.clamp(min=1).unsqueeze(1)

    return Shares(share(inside), share(~inside))


def claimed_shares(shots: Sequence[Shares], weight_bk: Tensor) -> Shares:
    """Return the weighted mean over shots; one without an object, or without background, does not count in its mean."""

    def mean(each: Sequence[Tensor]) -> Tensor:
        shares_bkn = torch.stack(list(each), dim=1)
        weight = weight_bk * (shares_bkn.sum(2) > 0)
        return mean_over_shots(shares_bkn, weight / weight.sum(1, keepdim=True).clamp(min=EPS))

    return Shares(*(mean(kind) for kind in zip(*shots)))


@in_float32
def claims(base_logits: Tensor, unknown: Tensor | None = None) -> Tensor:
    """Return the probabilities of all channels, (B, N + 1, ...), of logits of that shape.

    ``unknown`` (B,) are channels treated as unknown to the base learner, 0 for none; the other channels share their
    probability. In training the query's object is a base class; hiding it imitates a novel class.
    """
    if unknown is not None:
        channel = torch.arange(base_logits.shape[1], device=base_logits.device)
        hide = (channel == unknown.unsqueeze(1)) & (channel > 0)  # (B, N + 1)
        base_logits = base_logits.masked_fill(hide.view(*hide.shape, *[1] * (base_logits.ndim - 2)), float("-inf"))
    return base_logits.softmax(dim=1)


@in_float32
def with_likelihood(meta_b2hw: Tensor, base_bnhw: Tensor, shares: Shares, unknown_b: Tensor | None) -> Tensor:
    """Return final logits (B, 2, h, w) by ``likelihood`` from meta and base logits and the supports' shares.

    The base learner's term carries no gradient, so the meta output learns to be right together with it.
    """
    with torch.no_grad():
        claimed = claims(base_bnhw, unknown_b)
        object_b1hw = meta_b2hw.softmax(1)[:, FOREGROUND_CHANNEL:]
        inside = _both(shares.inside, masked_mean(claimed, object_b1hw, EPS))
        background = _both(shares.background, masked_mean(claimed, 1 - object_b1hw, EPS))
        ratio = torch.einsum("bnhw,bn->bhw", claimed, ((inside + RARE) / (background + RARE)).log())
    return torch.stack([meta_b2hw[:, BACKGROUND_CHANNEL], meta_b2hw[:, FOREGROUND_CHANNEL] + ratio], dim=1)


def _both(support_bn: Tensor, query_bn: Tensor) -> Tensor:
    """Return the mean of the supports' and the query's shares; the query's alone where the supports have none."""
    known = support_bn.sum(1, keepdim=True) > 0
    return torch.where(known, (support_bn + query_bn) / 2, query_bn)
