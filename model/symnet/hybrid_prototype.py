"""The hybrid prototype: a prior of the query, prototypes by it, their alignment with the class name, triplet losses.

The self-activation prior is a pseudo mask of the query by the high-level similarity to the supports' foreground. The
losses pull aligned prototypes to their object and push them from its background.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.parts.loss import batch_mean, image_mean
from model.parts.prototype import FALLBACK, choose, mean_over
from model.tensors.mask import Mask
from model.tensors.ops import in_float32, min_max

# Size, stride and padding, whose zeros count, of square, tall and wide neighbourhoods.
KERNELS = (((5, 5), 1, (2, 2)), ((7, 1), 1, (3, 0)), ((1, 7), 1, (0, 3)))
PRIOR_EPS = 1e-7
FOREGROUND_ABOVE, BACKGROUND_BELOW = 0.7, 0.4  # of the prior of a query position
AMBIGUOUS_BETWEEN = (0.4, 0.55)  # open interval of the prior in which a position is hard to tell
DROPOUT, MARGIN = 0.1, 0.5


@torch.no_grad()
@in_float32
def pooled_directions(support_f4_nchw: Tensor, mask: Mask) -> Tensor:
    """Return sum_j s_j / |s_j| of n supports under each kernel, (n, 3, C) float32."""
    support = support_f4_nchw * mask.on(support_f4_nchw.shape[-2:])
    directions = []
    for kernel in KERNELS:
        pooled_bcl = F.avg_pool2d(support, *kernel).flatten(2)
        directions.append(F.normalize(pooled_bcl, dim=1, eps=PRIOR_EPS).sum(2))
    return torch.stack(directions, dim=1)


@torch.no_grad()
@in_float32
def self_activation_priors(query_f4_bchw: Tensor, directions_bk3c: Tensor) -> Tensor:
    """Return one prior per shot in [0, 1], (B, K, h, w); all zeros for an empty mask.

    It is the mean similarity of each query position to all support positions, under three pooling kernels. The
    published form averages the rows of an (h w x h w) matrix of cosines scaled by |q_i|. This mean over support
    positions j is one product, q_i . mean_j(s_j / |s_j|), so of a support only ``pooled_directions`` are kept. Pooling
    commutes with the sum over channels, so only the (h, w) map of products is pooled, not the query.
    """
    size = query_f4_bchw.shape[-2:]
    query_bcl = query_f4_bchw.flatten(2)
    mean_bk3c = directions_bk3c / query_bcl.shape[2]
    prior = torch.zeros(*directions_bk3c.shape[:2], *size, device=query_bcl.device)
    for kernel, direction_bkc in zip(KERNELS, mean_bk3c.unbind(2)):
        products = torch.bmm(direction_bkc, query_bcl).unflatten(2, size)
        activation_bkl = F.avg_pool2d(products, *kernel).flatten(2)
        prior += min_max(activation_bkl, PRIOR_EPS).unflatten(2, size)
    return prior / len(KERNELS)


class QueryPrototypes(NamedTuple):
    """Mean query features over the foreground, the ambiguous ("hard") and the background positions, (B, C) each."""

    foreground: Tensor
    ambiguous: Tensor
    background: Tensor


def query_prototypes(feature_bchw: Tensor, prior_b1hw: Tensor) -> QueryPrototypes:
    """Return the query's prototypes; an empty set falls back to the highest, median or lowest prior."""
    feature_bcl = feature_bchw.flatten(2)
    prior_bl = prior_b1hw.detach().float().flatten(1)
    positions = prior_bl.shape[1]
    fallback = min(FALLBACK, positions)
    middle = max(positions // 2 - fallback // 2, 0)
    ranking_bl = prior_bl.argsort(dim=1, descending=True, stable=True)
    low, high = AMBIGUOUS_BETWEEN
    is_ambiguous = (prior_bl > low) & (prior_bl < high)
    foreground = choose(prior_bl > FOREGROUND_ABOVE, ranking_bl, 0)
    ambiguous = choose(is_ambiguous, ranking_bl, middle)
    background = choose(prior_bl < BACKGROUND_BELOW, ranking_bl, positions - fallback)
    return QueryPrototypes(
        foreground=mean_over(feature_bcl, foreground),
        ambiguous=mean_over(feature_bcl, ambiguous),
        background=mean_over(feature_bcl, background),
    )


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
        attended_bc = torch.bmm(weight_b1l, key_bcl.transpose(1, 2)).squeeze(1)
        return prototype_bc + self.dropout(self.project(attended_bc))


@in_float32
def support_triplet(anchor_bc: Tensor, feature_bkchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
    """Return the loss of the anchor's farthest foreground and the mean background position, 0 if no support has both.

    ``mask_bk1hw`` is binary at the image's resolution; ignored pixels count as background, as published.
    """
    anchor_b1c = F.normalize(anchor_bc, dim=1).unsqueeze(1)
    feature_bklc = F.normalize(feature_bkchw.flatten(3).transpose(2, 3), dim=3)
    small_bkhw = F.interpolate(mask_bk1hw[:, :, 0], size=feature_bkchw.shape[-2:], mode="nearest")
    inside_bkl = small_bkhw.flatten(2) == 1
    distance_bkl = F.pairwise_distance(anchor_b1c.unsqueeze(1), feature_bklc)
    outside_bkl = (~inside_bkl).float()
    total_bkc = torch.einsum("bklc,bkl->bkc", feature_bklc, outside_bkl)
    background_bkc = total_bkc / outside_bkl.sum(2, keepdim=True).clamp(min=1)
    farthest_bk = distance_bkl.masked_fill(~inside_bkl, 0.0).amax(2)
    difference_bk = farthest_bk - F.pairwise_distance(anchor_b1c, background_bkc)
    has_both_bk = inside_bkl.any(2) & ~inside_bkl.all(2)
    loss_k = (F.relu(MARGIN + difference_bk) * has_both_bk).sum(0)
    means = [batch_mean(total, count) for total, count in zip(loss_k, has_both_bk.sum(0))]
    return torch.stack(means).mean()


@in_float32
def query_triplet(anchor_bc: Tensor, ambiguous_bc: Tensor, background_bc: Tensor) -> Tensor:
    """Return the query loss, which pulls the ambiguous prototype to the anchor and pushes the background one away."""
    anchor, positive, negative = (F.normalize(x, dim=1) for x in (anchor_bc, ambiguous_bc, background_bc))
    return image_mean(F.triplet_margin_loss(anchor, positive, negative, MARGIN, reduction="none"))
