"""Support calibration: what the base learner says inside and around the supports' own object decides how it is heard.

The published ensemble takes any base class that the base learner claims for proof that the novel object is not there.
But a base learner that never saw a horse claims cow: in the query, and in the support, whose mask tells that this is
wrong. In both forms the episode's class is hidden from the base learner in training, as a novel one is in testing.

``likelihood``: a claim is evidence for or against the object, whichever the mask says. With p_c(i) the probability of
channel c (background included) and a_c, d_c its means over the object and over what surrounds it,

    final = meta + [0, r],   r(i) = sum_c p_c(i) log((a_c + RARE) / (d_c + RARE)),
    a = (a_support + a_query) / 2,   d = (d_support + d_query) / 2,

where the query's means weigh positions by the meta output. Cows in the support's horse then speak for the object in the
query, cows in its meadow against it. No parameter. Cost: the base learner at every fourth position of the supports.

``discount``: the published ensemble over b = sum_c trust_c p_c, with trust 0 for a class whose share of the supports'
objects (the same sample of them) is above TOLERATED, else 1. Neither is part of the published method.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from model.bam.base_learner import BaseLearner
from model.common.ops import background_mask, foreground_mask, in_float32, masked_mean, resize
from model.common.self_support import BACKGROUND, FOREGROUND

TOLERATED = 0.01  # share of the object above which a class is not believed
RARE = 0.01  # added to shares: what is claimed this seldom says little
EPS = 1e-6  # least weight of a mean
HALF = 0.5  # a resized mask value from which a position belongs to the object
LATTICE = 2  # every so many rows and columns of a support are asked


class Shares(NamedTuple):
    """The mean probability of every channel of the base learner, (B, N + 1) float32 each; zeros where none is known."""

    inside: Tensor  # the supports' objects, a
    around: Tensor  # what surrounds them, d


@torch.no_grad()
def claimed_shares(
    base_learner: BaseLearner, support_f4: Tensor, label_bkhw: Tensor, weight_bk: Tensor, unknown_b: Tensor | None
) -> Shares:
    """Return the mean claims inside the supports' objects and around them, ignored pixels left out.

    The base learner is asked on a lattice, and all over an object that the lattice misses. A shot that shows no object,
    or nothing around it, has no say there.

    Args:
        base_learner: frozen.
        support_f4: last stage of the B * K supports, (B * K, C, h, w).
        label_bkhw: the supports' labels in {0, 1, 255}, of any size.
        weight_bk: of the shots.
        unknown_b: channels to be treated as unknown to the base learner; see :func:`claims`.
    """
    batch, shots = label_bkhw.shape[:2]
    images, size = batch * shots, support_f4.shape[-2:]
    inside, around = (
        resize(of(label_bkhw.flatten(0, 1)), size)[:, 0] >= HALF for of in (foreground_mask, background_mask)
    )  # (B * K, h, w)
    lattice = torch.zeros_like(inside)
    lattice[:, ::LATTICE, ::LATTICE] = True
    missed = ~(inside & lattice).flatten(1).any(1)
    asked = lattice & (inside | around) | inside & missed[:, None, None]
    hidden = base_learner.hidden_at(support_f4, asked)  # (n, 512), one image after the other
    logits = base_learner.logits(hidden[:, :, None, None])[:, :, 0, 0]  # (n, N + 1)
    image = torch.arange(images, device=logits.device).repeat_interleave(asked.flatten(1).sum(1))
    claimed = claims(logits, None if unknown_b is None else unknown_b.repeat_interleave(shots)[image])

    def share(of: Tensor) -> Tensor:
        """Return the mean over the asked positions of a map (B * K, h, w), weighted over shots."""
        chosen, count = of[asked], (of & asked).flatten(1).sum(1)
        total = claimed.new_zeros(images, claimed.shape[1]).index_add_(0, image[chosen], claimed[chosen])
        mean = (total / count.clamp(min=1).unsqueeze(1)).unflatten(0, (batch, shots))
        weight = weight_bk * (count > 0).view(batch, shots)
        weight = weight / weight.sum(1, keepdim=True).clamp(min=EPS)
        return (mean * weight.unsqueeze(2)).sum(1)

    return Shares(share(inside), share(~inside))


@in_float32
def claims(base_logits: Tensor, unknown: Tensor | None = None) -> Tensor:
    """Return the probabilities of all channels, (B, N + 1, ...), of logits of that shape.

    Args:
        base_logits: of the base learner, channel 0 background.
        unknown: (B,) int64, a channel whose class is taken for unknown to the base learner, 0 for none: the others
            share what it would have claimed. In training the query's object is a base class, and a base learner that
            knows it says nothing about one that does not.
    """
    if unknown is not None:
        channel = torch.arange(base_logits.shape[1], device=base_logits.device)
        hide = (channel == unknown.unsqueeze(1)) & (channel > 0)  # (B, N + 1)
        base_logits = base_logits.masked_fill(hide.view(*hide.shape, *[1] * (base_logits.ndim - 2)), float("-inf"))
    return base_logits.softmax(dim=1)


def trust(shares: Shares) -> Tensor:
    """Return how far each base class is believed by ``discount``, (B, N)."""
    return (shares.inside[:, 1:] <= TOLERATED).float()


def trusted_map(base_logits_bnhw: Tensor, trust_bn: Tensor, unknown_b: Tensor | None) -> Tensor:
    """Return b = sum_c trust_c p_c, (B, 1, H, W), of base logits (B, N + 1, H, W)."""
    return torch.einsum("bnhw,bn->bhw", claims(base_logits_bnhw, unknown_b)[:, 1:], trust_bn).unsqueeze(1)


@in_float32
def with_likelihood(meta_b2hw: Tensor, base_bnhw: Tensor, shares: Shares, unknown_b: Tensor | None) -> Tensor:
    """Return final logits (B, 2, h, w) by ``likelihood`` from meta and base logits and the supports' shares.

    What the base learner adds carries no gradient, so the meta output learns to be right together with it.
    """
    with torch.no_grad():
        claimed = claims(base_bnhw, unknown_b)
        object_b1hw = meta_b2hw.softmax(1)[:, FOREGROUND:]
        inside = _both(shares.inside, masked_mean(claimed, object_b1hw, EPS))
        around = _both(shares.around, masked_mean(claimed, 1 - object_b1hw, EPS))
        ratio = torch.einsum("bnhw,bn->bhw", claimed, ((inside + RARE) / (around + RARE)).log())
    return torch.stack([meta_b2hw[:, BACKGROUND], meta_b2hw[:, FOREGROUND] + ratio], dim=1)


def _both(support_bn: Tensor, query_bn: Tensor) -> Tensor:
    """Return the mean of the supports' and the query's shares, the query's alone where the supports have none."""
    known = support_bn.sum(1, keepdim=True) > 0
    return torch.where(known, (support_bn + query_bn) / 2, query_bn)
