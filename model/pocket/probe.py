"""The probe: a linear classifier of the positions of several photos, fitted in closed form (ridge regression).

With m and n the mean features of object and background, each photo counted alike, and C the covariance of both about
(m + n) / 2,

    logit(x) = G (x - (m + n) / 2)' (C + r I)^-1 (m - n) / 2

The features are those of all levels, the photos are the supports. One photo is too few, because the direction then
tells that photo's things apart and not classes: beside a single support, the query's own sure positions are the second
photo. They are found twice, before and after a first probe.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.common.ops import in_float32
from model.pocket.comparison import sure
from model.pocket.levels import MASK_EPS, Levels

RIDGE = 0.01  # r
GAIN = 6.0  # G
ROUNDS = 2  # of the query's own sure positions
STEPS = 40  # of conjugate gradients, which need no matrix of channels x channels
TINY = 1e-12  # smallest squared length of a residual


@in_float32
def probe(query: Levels, photos: Sequence[Levels], object_bkhw: Tensor, back_bkhw: Tensor) -> Tensor:
    """Return logits (B, 1, h, w) of B queries from K photos each.

    ``object_bkhw`` and ``back_bkhw`` weigh each cell of the photos as object and as background, such as by its share.
    """
    share_b2kl = torch.stack([object_bkhw, back_bkhw], dim=1).flatten(3)
    x_bmc = torch.cat([_joined(photo) for photo in photos], dim=1)  # m of all photos' positions
    weight_b2m = (share_b2kl / (share_b2kl.sum(3, keepdim=True) + MASK_EPS)).flatten(2)
    weight_b2m = weight_b2m / weight_b2m.sum(2, keepdim=True).clamp(min=MASK_EPS)  # a photo without object: 0
    mean_b2c = weight_b2m @ x_bmc
    centre_b1c = mean_b2c.mean(1, keepdim=True)
    x_bmc, half_bm1 = x_bmc - centre_b1c, weight_b2m.mean(1).unsqueeze(2)
    difference_bc1 = (mean_b2c[:, :1] - mean_b2c[:, 1:]).transpose(1, 2) / 2

    def covariance(v_bc1: Tensor) -> Tensor:
        return x_bmc.transpose(1, 2) @ (half_bm1 * (x_bmc @ v_bc1)) + RIDGE * v_bc1

    direction_bc1 = _solved(covariance, difference_bc1)
    logit_bl1 = GAIN * (_joined(query) - centre_b1c) @ direction_bc1
    return logit_bl1.transpose(1, 2).unflatten(2, query.joint.shape[-2:])


def probe_with_query(
    query: Levels, views: Sequence[Levels], shares_bkhw: Sequence[Tensor], first_b1hw: Tensor, coarse_b1hw: Tensor
) -> Tensor:
    """Return logits (B, 1, h, w) of B queries from K views of a single support each, and the query itself.

    ``shares_bkhw`` are the weights of the views' cells as object and as background. The sure positions of
    ``first_b1hw`` are taken first. The decoder's logits ``coarse_b1hw`` with the first probe's are the prediction after
    it, whose mean with ``first_b1hw`` has the positions of the second round.
    """
    logit_b1hw = first_b1hw
    for _ in range(ROUNDS):
        own_b2hw = sure(logit_b1hw.flatten(2)).unflatten(2, logit_b1hw.shape[-2:])
        weights = (torch.cat([share, own_b2hw[:, i : i + 1]], dim=1) for i, share in enumerate(shares_bkhw))
        probed_b1hw = probe(query, [*views, query], *weights)
        logit_b1hw = (first_b1hw + coarse_b1hw + probed_b1hw) / 2  # of the next round
    return probed_b1hw


def _joined(levels: Levels) -> Tensor:
    """Return the levels' features side by side, (B, L, C)."""
    return torch.cat([x.flatten(2) for x in levels.unit], dim=1).transpose(1, 2)


def _solved(matrix: Callable[[Tensor], Tensor], right_bc1: Tensor) -> Tensor:
    """Return v with ``matrix(v)`` = right for symmetric positive definite matrices, by conjugate gradients."""
    v, residual = torch.zeros_like(right_bc1), right_bc1
    step, length = residual, (residual * residual).sum(1, keepdim=True)
    for _ in range(STEPS):
        image = matrix(step)
        rate = length / (step * image).sum(1, keepdim=True).clamp(min=TINY)
        v, residual = v + rate * step, residual - rate * image
        before, length = length, (residual * residual).sum(1, keepdim=True)
        step = residual + length / before.clamp(min=TINY) * step
    return v
