"""Likeness: whether a query shows a support's object at all, by the features of the encoder.

A network that learnt to segment base classes finds something in every query, and its logits say little about the
presence of a novel class. The encoder's last map tells more. With x the query's unit features, mu their mean, and p the
mean unit feature of the supports' objects, the evidence is the largest values (the mean over ``TOP`` of all positions)
of

    cos(x, p)   and   cos(x - mu, p - mu).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import in_float32

TOP = 0.01  # share of the query's positions
EPS = 1e-6  # smallest length of a feature, and smallest sum of a mask


@torch.no_grad()
@in_float32
def object_feature(support_bchw: Tensor, mask_b1ss: Tensor) -> Tensor:
    """Return the mean unit feature of each support's object, (B, C) float32; a small object has its share of a cell."""
    height, width = support_bchw.shape[-2:]
    share_b1hw = F.adaptive_avg_pool2d(mask_b1ss, (height, width))
    length_b1hw = support_bchw.norm(dim=1, keepdim=True).clamp(min=EPS)
    total_bc = torch.einsum("bchw,bhw->bc", support_bchw, (share_b1hw / length_b1hw)[:, 0])
    return total_bc / share_b1hw.sum((1, 2, 3)).clamp(min=EPS).unsqueeze(1)


def likeness_to_supports(query_bchw: Tensor, support_nchw: Tensor, mask_bk1ss: Tensor) -> Tensor:
    """Return the evidence of the class, (B, 1, 2) float32, of B queries with their N = B * K supports."""
    return likeness(
        query_bchw, object_feature(support_nchw, mask_bk1ss.flatten(0, 1)).unflatten(0, mask_bk1ss.shape[:2])
    )


@torch.no_grad()
@in_float32
def likeness(query_bchw: Tensor, objects_bkc: Tensor) -> Tensor:
    """Return the evidence of the class, (B, 1, 2) float32: the largest cosine and the largest centred cosine.

    Args:
        query_bchw: features of the queries.
        objects_bkc: ``object_feature`` of the K supports of each; their mean is compared.
    """
    length_bl = query_bchw.norm(dim=1).flatten(1).clamp(min=EPS)
    p_bc = objects_bkc.mean(1)
    mean_bc = torch.einsum("bcl,bl->bc", query_bchw.flatten(2), 1 / length_bl) / length_bl.shape[1]
    with_p, with_mean = (_products(query_bchw, v_bc) / length_bl for v_bc in (p_bc, mean_bc))  # (B, L)
    p_mean, mean_mean = ((v * mean_bc).sum(1, keepdim=True) for v in (p_bc, mean_bc))  # (B, 1)

    cosine = with_p / p_bc.norm(dim=1, keepdim=True).clamp(min=EPS)
    length = (1 - 2 * with_mean + mean_mean).clamp(min=EPS).sqrt()  # of x - mu
    centred = (with_p - with_mean - p_mean + mean_mean) / length
    centred = centred / (p_bc - mean_bc).norm(dim=1, keepdim=True).clamp(min=EPS)
    top = max(round(TOP * length_bl.shape[1]), 1)
    return torch.stack([x.topk(top, dim=1).values.mean(1) for x in (cosine, centred)], dim=1).unsqueeze(1)


def _products(x_bchw: Tensor, v_bc: Tensor) -> Tensor:
    return torch.einsum("bcl,bc->bl", x_bchw.flatten(2), v_bc)
