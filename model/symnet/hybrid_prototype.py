"""The hybrid prototype: a prior of the query, prototypes by it, their alignment with the class name, triplet losses.

The self-activation prior is a pseudo mask of the query by the high-level similarity to the supports' foreground. The
losses pull aligned prototypes to their object and push them from its background.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.fixed_shapes import Objects
from model.common.loss import batch_mean, image_mean
from model.common.ops import in_float32, min_max
from model.common.prototype import FALLBACK, choose, mean_over

# Size, stride and padding, whose zeros count, of square, tall and wide neighbourhoods.
KERNELS = (((5, 5), 1, (2, 2)), ((7, 1), 1, (3, 0)), ((1, 7), 1, (0, 3)))
REACH = 3  # largest half-width of a kernel
PRIOR_EPS = 1e-7
FOREGROUND_ABOVE, BACKGROUND_BELOW = 0.7, 0.4  # of the prior of a query position
AMBIGUOUS_BETWEEN = (0.4, 0.55)  # open interval of the prior in which a position is hard to tell
DROPOUT, MARGIN = 0.1, 0.5


@torch.no_grad()
@in_float32
def object_directions(support_f4_bchw: Tensor, objects: Objects) -> Tensor:
    """Return sum_j s_j / |s_j| of one shot under each kernel, (B, 3, C) float32.

    Only the window around the object is pooled: elsewhere all averages are 0.
    """
    found = objects.on(support_f4_bchw.shape[-2:])
    window = found.window(REACH, REACH)
    support = window.crop(support_f4_bchw) * window.crop(found.mask)
    units = (F.normalize(F.avg_pool2d(support, *kernel).flatten(2), dim=1, eps=PRIOR_EPS) for kernel in KERNELS)
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
    size, query = query_f4_bchw.shape[-2:], query_f4_bchw.flatten(2)  # (h, w), (B, C, L)
    prior = torch.zeros(*directions_bk3c.shape[:2], *size, device=query.device)
    for kernel, direction_bkc in zip(KERNELS, (directions_bk3c / query.shape[2]).unbind(2)):
        activation = F.avg_pool2d(torch.bmm(direction_bkc, query).unflatten(2, size), *kernel).flatten(2)
        prior += min_max(activation, PRIOR_EPS).unflatten(2, size)
    return prior / len(KERNELS)


class QueryPrototypes(NamedTuple):
    """Mean query features over the foreground, the ambiguous ("hard") and the background positions, (B, C) each."""

    foreground: Tensor
    ambiguous: Tensor
    background: Tensor


def query_prototypes(feature_bchw: Tensor, prior_b1hw: Tensor) -> QueryPrototypes:
    """Return the query's prototypes; an empty set falls back to the highest, median or lowest prior."""
    feature_bcl, prior_bl = feature_bchw.flatten(2), prior_b1hw.detach().float().flatten(1)
    positions = prior_bl.shape[1]
    take, (low, high) = min(FALLBACK, positions), AMBIGUOUS_BETWEEN
    ranking_bl = prior_bl.argsort(dim=1, descending=True, stable=True)
    sets = (
        (prior_bl > FOREGROUND_ABOVE, 0),
        ((prior_bl > low) & (prior_bl < high), max(positions // 2 - take // 2, 0)),
        (prior_bl < BACKGROUND_BELOW, positions - take),
    )
    return QueryPrototypes(*(mean_over(feature_bcl, choose(chosen, ranking_bl, rank)) for chosen, rank in sets))


class TextAlignment(nn.Module):
    """One attention step from [word vector; prototype] over a map, added to the prototype: A(X, t, p)."""

    def __init__(self, channels: int, text_width: int):
        super().__init__()
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.query = nn.Linear(text_width + channels, channels, bias=False)
        bound = channels**-0.5  # U(-1/16, 1/16) at 256 channels
        self.bilinear = nn.Parameter(torch.empty(channels, channels).uniform_(-bound, bound))
        self.project = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_bchw: Tensor, text_bt: Tensor, prototype_bc: Tensor) -> Tensor:
        """Return the aligned prototype r = p + drop(proj(sum_i softmax_i(q U k_i) k_i)), (B, C)."""
        key_bcl = self.key(x_bchw).flatten(2)
        question_bc = self.query(torch.cat([text_bt, prototype_bc.to(text_bt.dtype)], dim=1))
        score_b1l = torch.bmm((question_bc @ self.bilinear).unsqueeze(1).to(key_bcl.dtype), key_bcl)
        weight_b1l = score_b1l.float().softmax(dim=2).to(key_bcl.dtype)
        return prototype_bc + self.dropout(self.project(torch.bmm(weight_b1l, key_bcl.transpose(1, 2)).squeeze(1)))


@in_float32
def support_triplet(anchor_bc: Tensor, feature_bkchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
    """Return the loss of the anchor's farthest foreground and the mean background position, 0 if no support has both.

    ``mask_bk1hw`` is binary at the image's resolution; ignored pixels count as background, as published.
    """
    anchor_b1c = F.normalize(anchor_bc, dim=1).unsqueeze(1)
    feature_bklc = F.normalize(feature_bkchw.flatten(3).transpose(2, 3), dim=3)
    inside_bkl = F.interpolate(mask_bk1hw[:, :, 0], size=feature_bkchw.shape[-2:], mode="nearest").flatten(2) == 1
    distance_bkl = F.pairwise_distance(anchor_b1c.unsqueeze(1), feature_bklc)
    outside = (~inside_bkl).float()
    mean_bkc = torch.einsum("bklc,bkl->bkc", feature_bklc, outside) / outside.sum(2, keepdim=True).clamp(min=1)
    loss_bk = distance_bkl.masked_fill(~inside_bkl, 0.0).amax(2) - F.pairwise_distance(anchor_b1c, mean_bkc)
    both_bk = inside_bkl.any(2) & ~inside_bkl.all(2)
    shots = zip((F.relu(MARGIN + loss_bk) * both_bk).sum(0), both_bk.sum(0))
    return torch.stack([batch_mean(total, count) for total, count in shots]).mean()


@in_float32
def query_triplet(anchor_bc: Tensor, ambiguous_bc: Tensor, background_bc: Tensor) -> Tensor:
    """Return the query loss, which pulls the ambiguous prototype to the anchor and pushes the background one away."""
    anchor, positive, negative = (F.normalize(x, dim=1) for x in (anchor_bc, ambiguous_bc, background_bc))
    return image_mean(F.triplet_margin_loss(anchor, positive, negative, MARGIN, reduction="none"))
