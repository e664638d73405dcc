"""Self-activation prior: a pseudo mask of the query from high-level similarity to the supports' foreground."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import Objects
from model.common.ops import in_float32, min_max

KERNELS = ((5, 5), (7, 1), (1, 7))  # square, tall and wide neighbourhoods
REACH = 3  # largest half-width of a kernel
EPS = 1e-7


def _pool(x: Tensor, kernel: tuple[int, int]) -> Tensor:
    """Return the average over a neighbourhood, stride 1, counting the zeros of the padding."""
    return F.avg_pool2d(x, kernel, stride=1, padding=(kernel[0] // 2, kernel[1] // 2))


@torch.no_grad()
@in_float32
def object_directions(support_f4_bchw: Tensor, objects: Objects) -> Tensor:
    """Return sum_j s_j / |s_j| of one shot under each kernel, (B, 3, C) float32.

    The support is 0 outside its object, so only the window around the object is pooled: elsewhere all averages are 0.
    """
    found = objects.on(support_f4_bchw.shape[-2:])
    window = found.window(REACH, REACH)
    support = window.crop(support_f4_bchw) * window.crop(found.mask)
    units = (F.normalize(_pool(support, kernel).flatten(2), dim=1, eps=EPS) for kernel in KERNELS)
    return torch.stack([unit.sum(2) for unit in units], dim=1)


@torch.no_grad()
@in_float32
def self_activation_priors(query_f4_bchw: Tensor, directions_bk3c: Tensor) -> Tensor:
    """Return one prior per shot in [0, 1], (B, K, h, w); all zeros for an empty mask.

    It is the mean similarity of each query position to all support positions, under three pooling kernels. The
    published form averages the rows of an (h w x h w) matrix of cosines scaled by |q_i|. This mean over support
    positions j is one product, q_i . mean_j(s_j / |s_j|), so of a support only ``object_directions`` are kept. Pooling
    commutes with the sum over channels, so only the (h, w) map of products is pooled, not the query.
    """
    size = query_f4_bchw.shape[-2:]
    query = query_f4_bchw.flatten(2)  # (B, C, L)
    prior = torch.zeros(*directions_bk3c.shape[:2], *size, device=query.device)
    for kernel, direction_bkc in zip(KERNELS, (directions_bk3c / query.shape[2]).unbind(2)):
        product = torch.bmm(direction_bkc, query)  # (B, K, L)
        activation = _pool(product.unflatten(2, size), kernel).flatten(2)
        prior += min_max(activation, EPS).unflatten(2, size)
    return prior / len(KERNELS)
