"""The comparison of a query with its supports: cosines to prototypes and positions, self-support, and a linear probe.

For every level l, with p and b the supports' mean unit features of object and background,

    guess  = T sum_l w_l (cos(x_l, p_l) - cos(x_l, b_l)) + o_1
    second = T sum_l v_l (cos(x_l, p_l + s_l) - cos(x_l, b_l / 2 + t_l)) + o_2

where s and t are the same means over the confident positions of the query by the guess; the learnt level has a
background of its own for each position (SSP's). Nothing but T, w, v and o is learnt here, so that the comparison serves
novel classes from the first step on.

The probe is a linear classifier of the positions of several photos, fitted in closed form (ridge regression). With m
and n the mean features of object and background, each photo counted alike, and C the covariance of both about
(m + n) / 2,

    logit(x) = G (x - (m + n) / 2)' (C + r I)^-1 (m - n) / 2

The features are those of all levels, the photos are the supports. One photo is too few, because the direction then
tells that photo's things apart and not classes: beside a single support, the query's own confident positions are the
second photo. They are found twice, before and after a first probe.
"""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.parts.self_support import CONFIDENT_BACKGROUND, CONFIDENT_FOREGROUND, TEMPERATURE
from model.pocket.levels import MASK_EPS, Levels, Views
from model.tensors.ops import in_float32

NEARLY = 0.95  # share of an image's greatest probability that is confident, if that is below SSP's thresholds
SHARPNESS = 10.0  # of the attention of positions to confident background
ADAPTIVE = 0.7  # share of each position's own background in the learnt level
FAR = 4.0  # subtracted from the cosines of excluded positions
# Of the probe:
RIDGE = 0.01  # r
GAIN = 6.0  # G
ROUNDS = 2  # of the query's own confident positions
STEPS = 30  # of conjugate gradients, which need no matrix of channels x channels; rounding errors remain
TINY = 1e-30  # added to squared lengths of residuals, which may be 0


class Compared(NamedTuple):
    """The result of a comparison."""

    guess: Tensor  # (B, 1, h, w), logits of the supports' prototypes
    second: Tensor  # (B, 1, h, w), logits after the self-support step
    maps: Tensor  # (B, M, h, w), all cosines

    @property
    def match(self) -> Tensor:
        """The mean of both logits, (B, 1, h, w)."""
        return (self.guess + self.second) / 2


class Comparison(nn.Module):
    """Cosines at several levels, of which the last is the learnt one, with learnt temperature and weights."""

    def __init__(self, levels: int):
        super().__init__()
        self.learnt = levels - 1
        self.maps = 4 * levels + 2 * (levels - 1)  # cosines to both prototypes, at first and after self-support
        self.log_temperature = nn.Parameter(torch.tensor(TEMPERATURE).log())
        self.first_weight = nn.Parameter(torch.full((levels,), 1 / levels))  # w
        self.second_weight = nn.Parameter(torch.full((levels,), 1 / levels))  # v
        self.offset = nn.Parameter(torch.zeros(2))

    @in_float32
    def forward(self, query: Levels, supports: Views, object_bkhw: Tensor, back_bkhw: Tensor) -> Compared:
        """Return logits and cosines of B queries, from K views of supports and the shares of their cells."""
        temperature = self.log_temperature.exp()
        size = object_bkhw.shape[-2:]
        share_bk2l = torch.stack([object_bkhw, back_bkhw], dim=2).flatten(3)
        area_bk21 = share_bk2l.sum(3, keepdim=True)
        mean_bk2l = share_bk2l / (area_bk21 + MASK_EPS)
        # A position counts by more than half of its cell, or the greatest share if none has that; m of K * L positions.
        enough_bk21 = share_bk2l.amax(-1, keepdim=True).clamp(max=0.5)
        mostly = (share_bk2l > 0) & (share_bk2l >= enough_bk21)
        excluded_b2m = FAR * ~mostly.transpose(1, 2).flatten(2)

        prototypes = []
        cosines = []
        maps = []
        for level, x_bchw in enumerate(query.unit):
            x_bcl = x_bchw.flatten(2)
            shots_bkcl = supports.unit[level].flatten(3)
            means_bk2c = mean_bk2l @ shots_bkcl.transpose(2, 3)
            prototype_b2c = F.normalize(means_bk2c.sum(1), dim=2)  # p, b
            cosine_b2l = prototype_b2c @ x_bcl
            prototypes.append(prototype_b2c)
            cosines.append(cosine_b2l)
            maps.append(cosine_b2l)
            if level > 0:
                maps.append(self._greatest_cosines(level, x_bcl, shots_bkcl, excluded_b2m))
        guess = temperature * _weighted(cosines, self.first_weight) + self.offset[0]

        confident_b2l = confident(guess.detach())
        second_cosines = []
        for level, (x_bchw, prototype_b2c) in enumerate(zip(query.unit, prototypes)):
            x_bcl = x_bchw.flatten(2)
            second_cosines.append(self._self_support(level, x_bcl, prototype_b2c, confident_b2l))
        second = temperature * _weighted(second_cosines, self.second_weight) + self.offset[1]
        all_cosines = torch.cat([*maps, *second_cosines], dim=1)
        return Compared(*(x.unflatten(2, size) for x in (guess, second, all_cosines)))

    def _greatest_cosines(self, level: int, x_bcl: Tensor, shots_bkcl: Tensor, excluded_b2m: Tensor) -> Tensor:
        """Return the greatest cosines to object and to background, (B, 2, L); only the learnt level has gradients."""
        with torch.set_grad_enabled(level == self.learnt and torch.is_grad_enabled()):
            positions_bmc = shots_bkcl.transpose(2, 3).flatten(1, 2)
            cosine_bml = positions_bmc @ x_bcl
            greatest = []  # of the object, of the background
            for excluded_bm in excluded_b2m.unbind(1):
                included_bml = cosine_bml - excluded_bm.unsqueeze(2)
                greatest.append(included_bml.amax(1))
            return torch.stack(greatest, dim=1).clamp(min=-1)

    def _self_support(self, level: int, x_bcl: Tensor, prototype_b2c: Tensor, confident_b2l: Tensor) -> Tensor:
        """Return the cosines (B, 2, L) to prototypes with those of the query's confident positions, s and t."""
        query_b2c = F.normalize(confident_b2l @ x_bcl.transpose(1, 2), dim=2)
        object_bc, back_bc = prototype_b2c.unbind(1)
        joint_b2c = torch.stack([object_bc, back_bc / 2], dim=1) + query_b2c
        cosine_b2l = F.normalize(joint_b2c, dim=2) @ x_bcl
        if level != self.learnt:
            return cosine_b2l
        # Each position has a background prototype of its own.
        excluded = torch.where(confident_b2l[:, 1:] > 0, 0.0, -torch.inf)
        score_bll = SHARPNESS * x_bcl.transpose(1, 2) @ x_bcl
        attention_bll = (score_bll + excluded).softmax(2)
        adaptive_bcl = F.normalize(x_bcl @ attention_bll.transpose(1, 2), dim=1)
        mixed_bcl = (1 - ADAPTIVE) * back_bc.unsqueeze(2) + ADAPTIVE * adaptive_bcl
        back_bcl = F.normalize(mixed_bcl, dim=1)
        to_back_bl = (x_bcl * back_bcl).sum(1)
        return torch.stack([cosine_b2l[:, 0], to_back_bl], dim=1)


def _weighted(cosine_b2l: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Return the weighted sum over levels of the cosine to the object minus that to the background, (B, 1, L)."""
    weighted = []
    for w, x_b2l in zip(weight, cosine_b2l):
        of_object, of_back = x_b2l.split(1, dim=1)
        weighted.append(w * (of_object - of_back))
    return reduce(torch.add, weighted)


@in_float32
def confident(logits_b1l: Tensor) -> Tensor:
    """Return weights (B, 2, L) of the positions that are confidently object, or background; they sum to 1."""
    probability = torch.cat([logits_b1l, -logits_b1l], dim=1).sigmoid()  # (B, 2, L)
    thresholds = (CONFIDENT_FOREGROUND, CONFIDENT_BACKGROUND)
    enough = torch.stack([probability.new_full((1,), threshold) for threshold in thresholds])
    nearly_greatest = NEARLY * probability.amax(2, keepdim=True)
    is_confident = probability >= torch.minimum(nearly_greatest, enough)
    weight = probability * is_confident
    smallest = torch.finfo(weight.dtype).tiny
    total = weight.sum(2, keepdim=True).clamp(min=smallest)
    return weight / total


def probe(query: Levels, photos: Views) -> Tensor:
    """Return logits (B, 1, h, w) of B queries from K photos of each."""
    return _probe(_positions(query), _positions_of_views(photos), photos.objects, photos.backgrounds)


@in_float32
def _probe(query_blc: Tensor, x_bmc: Tensor, object_bkhw: Tensor, back_bkhw: Tensor) -> Tensor:
    """Return what ``probe`` does from the features of the queries and of all positions of their K photos."""
    share_b2kl = torch.stack([object_bkhw, back_bkhw], dim=1).flatten(3)
    area_b2k1 = share_b2kl.sum(3, keepdim=True)
    of_photos_b2m = (share_b2kl / (area_b2k1 + MASK_EPS)).flatten(2)  # a photo without object: 0
    total_b21 = of_photos_b2m.sum(2, keepdim=True).clamp(min=MASK_EPS)
    weight_b2m = of_photos_b2m / total_b21
    mean_b2c = weight_b2m @ x_bmc
    centre_b1c = mean_b2c.mean(1, keepdim=True)
    x_bmc = x_bmc - centre_b1c
    half_bm1 = weight_b2m.mean(1).unsqueeze(2)
    of_object_b1c, of_back_b1c = mean_b2c.split(1, dim=1)
    difference_bc1 = (of_object_b1c - of_back_b1c).transpose(1, 2) / 2
    direction_bc1 = _solve(x_bmc, half_bm1, difference_bc1)
    centred_blc = query_blc - centre_b1c
    logit_bl1 = GAIN * centred_blc @ direction_bc1
    return logit_bl1.transpose(1, 2).unflatten(2, object_bkhw.shape[-2:])


def _solve(x_bmc: Tensor, half_bm1: Tensor, difference_bc1: Tensor) -> Tensor:
    """Return covariance^-1 difference, (B, C, 1), by conjugate gradients, of features weighed by ``half_bm1``."""
    root_bmc = half_bm1.sqrt() * x_bmc  # of the covariance
    tiny_b11 = torch.full_like(difference_bc1[:, :1], TINY)
    direction_bc1 = torch.zeros_like(difference_bc1)
    residual = difference_bc1
    step = difference_bc1
    length = torch.baddbmm(tiny_b11, residual.transpose(1, 2), residual)  # squared, (B, 1, 1)
    for _ in range(STEPS):
        image = torch.baddbmm(step, root_bmc.transpose(1, 2), root_bmc @ step, beta=RIDGE)  # covariance times step
        rate = length / torch.baddbmm(tiny_b11, step.transpose(1, 2), image)
        direction_bc1 = torch.addcmul(direction_bc1, rate, step)
        residual = torch.addcmul(residual, rate, image, value=-1)
        last_length = length
        length = torch.baddbmm(tiny_b11, residual.transpose(1, 2), residual)
        step = torch.addcmul(residual, length / last_length, step)
    return direction_bc1


def probe_with_query(query: Levels, views: Views, first_b1hw: Tensor, coarse_b1hw: Tensor) -> Tensor:
    """Return logits (B, 1, h, w) of B queries from K views of a single support each, and the query itself.

    The confident positions are of ``first_b1hw``, then of its mean with the prediction after the first probe, to which
    ``coarse_b1hw`` are the decoder's logits.
    """
    query_blc = _positions(query)
    photos_bmc = torch.cat([_positions_of_views(views), query_blc], dim=1)
    logit_b1hw = first_b1hw
    for _ in range(ROUNDS):
        confident_b2l = confident(logit_b1hw.flatten(2))
        confident_b2hw = confident_b2l.unflatten(2, logit_b1hw.shape[-2:])
        objects = torch.cat([views.objects, confident_b2hw[:, :1]], dim=1)
        backs = torch.cat([views.backgrounds, confident_b2hw[:, 1:]], dim=1)
        probed_b1hw = _probe(query_blc, photos_bmc, objects, backs)
        logit_b1hw = (first_b1hw + coarse_b1hw + probed_b1hw) / 2  # of the next round
    return probed_b1hw


def _positions(query: Levels) -> Tensor:
    """Return the levels' features of every position side by side, (B, L, C)."""
    return torch.cat([x.flatten(2).transpose(1, 2) for x in query.unit], dim=2)


def _positions_of_views(views: Views) -> Tensor:
    """Return the levels' features of every position side by side, those of K views after each other, (B, K L, C)."""
    beside = torch.cat([x.flatten(3).transpose(2, 3) for x in views.unit], dim=3)
    return beside.flatten(1, 2)
