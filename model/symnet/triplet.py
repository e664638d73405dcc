"""Hard triplet losses, which pull aligned prototypes to their object and push them from its background."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.loss import batch_mean
from model.common.ops import in_float32
from model.symnet.query_prototypes import QueryPrototypes

MARGIN = 0.5
DISTANCE_EPS = 1e-6  # added to each coordinate of a difference, as in torch's pairwise distance


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Return the Euclidean distance along the last dimension."""
    return (a - b + DISTANCE_EPS).norm(dim=-1)


@in_float32
def support_triplet(anchor_bc: Tensor, feature_bkchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
    """Return the support loss, from the anchor's farthest foreground position and the mean background position.

    ``mask_bk1hw`` is binary at the image's resolution; ignored pixels count as background, as published. Averaged
    over the episodes that have both foreground and background, then over shots; 0 if none has.
    """
    anchor = F.normalize(anchor_bc, dim=1)
    size = feature_bkchw.shape[-2:]
    per_shot = []
    for shot in range(feature_bkchw.shape[1]):
        feature_blc = F.normalize(feature_bkchw[:, shot].flatten(2).transpose(1, 2), dim=2)
        inside_bl = F.interpolate(mask_bk1hw[:, shot], size=size, mode="nearest").flatten(1) == 1
        farthest = _distance(anchor.unsqueeze(1), feature_blc).masked_fill(~inside_bl, 0.0).amax(1)
        outside = (~inside_bl).float()
        negative = torch.einsum("blc,bl->bc", feature_blc, outside) / outside.sum(1, keepdim=True).clamp(min=1)
        loss_b = F.relu(MARGIN + farthest - _distance(anchor, negative))
        both = inside_bl.any(1) & ~inside_bl.all(1)
        per_shot.append(batch_mean((loss_b * both).sum(), both.sum()))
    return torch.stack(per_shot).mean()


@in_float32
def _query_triplet(anchor_bc: Tensor, positive_bc: Tensor, negative_bc: Tensor) -> Tensor:
    anchor, positive, negative = (F.normalize(x, dim=1) for x in (anchor_bc, positive_bc, negative_bc))
    loss_b = F.relu(MARGIN + _distance(anchor, positive) - _distance(anchor, negative))
    return batch_mean(loss_b.sum(), torch.tensor(float(len(loss_b)), device=loss_b.device))


def query_triplet(anchor_bc: Tensor, prototypes: QueryPrototypes) -> Tensor:
    """Return the query loss, which pulls the ambiguous prototype to the anchor and pushes the background one away."""
    return _query_triplet(anchor_bc, prototypes.ambiguous, prototypes.background)
