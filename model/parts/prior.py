"""The prior by the most similar position of an object (PFENet)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.tensors.mask import Mask, touched
from model.tensors.ops import in_float32, min_max

COSINE_EPS = 1e-7


@torch.no_grad()
@in_float32
def object_directions(feature_nchw: Tensor, mask: Mask) -> Tensor:
    """Return the unit features at the positions that see something of the objects, (n, m, C); zeros where fewer."""
    positions = mask.positions(feature_nchw.shape[-2:], touched)
    rows_nmc = positions.padded(feature_nchw.flatten(2).transpose(1, 2))
    return F.normalize(rows_nmc, dim=2, eps=COSINE_EPS)


@torch.no_grad()
def greatest_cosine(query_bchw: Tensor, directions_bmc: Tensor) -> Tensor:
    """Return the cosine of each query position to the most similar one of an object, (B, h, w) float32 (PFENet).

    Positions outside the object count as zero vectors, as published; a mask value between 0 and 1 does not change a
    cosine.
    """
    query_bcl = query_bchw.flatten(2)
    length_bl = query_bcl.float().norm(dim=1).clamp(min=COSINE_EPS)
    if directions_bmc.shape[1] < query_bcl.shape[2]:
        directions_bmc = F.pad(directions_bmc, (0, 0, 0, 1))  # what lies outside
    greatest_bl = (directions_bmc @ query_bcl).amax(1).float() / length_bl
    return greatest_bl.unflatten(1, query_bchw.shape[-2:])


def prior(query_bchw: Tensor, directions_bmc: Tensor) -> Tensor:
    """Return PFENet's prior by a shot, (B, h, w): the greatest cosine, stretched to 0..1; 0 for an empty mask."""
    greatest_bhw = greatest_cosine(query_bchw, directions_bmc)
    return min_max(greatest_bhw.flatten(1), COSINE_EPS).view_as(greatest_bhw)
