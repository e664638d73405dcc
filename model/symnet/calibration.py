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

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from model.episode import Batch
from model.parts.base_learner import BaseLearner
from model.tensors.mask import Mask, positions_of
from model.tensors.ops import BACKGROUND_CHANNEL, FOREGROUND_CHANNEL, in_float32, masked_mean, resize

RARE = 0.01  # added to means, so that rare classes have little influence
EPS = 1e-6  # smallest weight of a mean
LATTICE = 2  # step in rows and columns between the sampled positions of a support


@dataclass
class Sampled(Batch):
    """The base learner at m sampled positions of n supports."""

    logits: Tensor  # (n, m, N + 1)
    is_object: Tensor  # (n, m) float32: 1 at positions of the object
    is_ground: Tensor  # (n, m) float32: 1 at those of its background; neither where a support has fewer


def _on_lattice(inside_nhw: Tensor, background_nhw: Tensor) -> Tensor:
    """Return the sampled positions, (n, h, w) bool.

    They are a lattice without ignored positions, and every position of an object that it misses.
    """
    size = inside_nhw.shape[1:]
    rows, columns = (torch.arange(side, device=inside_nhw.device) % LATTICE == 0 for side in size)
    lattice = (rows[:, None] & columns).expand_as(inside_nhw)
    is_missed = ~(inside_nhw & lattice).flatten(1).any(1)  # (n,)
    on_lattice = lattice & (inside_nhw | background_nhw)
    missed = inside_nhw & is_missed[:, None, None]
    return on_lattice | missed


@torch.no_grad()
def sampled_logits(base_learner: BaseLearner, support_f4_nchw: Tensor, mask: Mask) -> Sampled:
    """Return the logits of the base learner at sampled positions of n supports."""
    size = support_f4_nchw.shape[-2:]
    is_inside = mask.on(size)[:, 0] >= 0.5
    is_background = resize(mask.background, size)[:, 0] >= 0.5
    [sampled] = positions_of(_on_lattice(is_inside, is_background).flatten(1))
    rows = base_learner.hidden_at(support_f4_nchw, sampled)  # (all m, 512), image by image
    logits = base_learner.logits(rows[:, :, None, None])[:, :, 0, 0]
    inside = is_inside.flatten(1)
    both = torch.stack([inside, ~inside], dim=2).float()  # (n, h w, 2)
    is_object, is_ground = sampled.padded(both).unbind(2)
    of_each = logits.split(sampled.counts)
    return Sampled(pad_sequence(of_each, batch_first=True), is_object, is_ground)


def shot_means(sampled: Sampled, hidden_b: Tensor | None) -> Tensor:
    """Return the means over object and background of B supports, a and d, (B, 2, N + 1) float32; 0 where one has none.

    The channels ``hidden_b`` are unknown, as in ``base_probability``.
    """
    probability_bnm = base_probability(sampled.logits.transpose(1, 2), hidden_b)
    means = []
    for weight_bm in (sampled.is_object, sampled.is_ground):
        total_bn = (probability_bnm @ weight_bm.unsqueeze(2)).squeeze(2)
        means.append(total_bn / weight_bm.sum(1, keepdim=True).clamp(min=1))
    return torch.stack(means, dim=1)


def means_over_shots(means_bk2n: Tensor, weight_bk: Tensor) -> Tensor:
    """Return the weighted mean over shots, (B, 2, N + 1); a shot without an object does not count in its mean a."""
    has_any_bk2 = means_bk2n.sum(3) > 0
    weight_bk2 = weight_bk.unsqueeze(2) * has_any_bk2
    total_b12 = weight_bk2.sum(1, keepdim=True).clamp(min=EPS)
    share_bk2 = weight_bk2 / total_b12
    return (means_bk2n * share_bk2.unsqueeze(3)).sum(1)


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
        everywhere = hide.view(*hide.shape, *further)
        base_logits = base_logits.masked_fill(everywhere, float("-inf"))
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
