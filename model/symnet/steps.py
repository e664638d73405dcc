"""Sym-Net's steps: the self-activation prior, and the query's prototypes with the class name.

The prior is a pseudo mask of the query by the high-level similarity to the supports' foreground.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.tensors.mask import Mask
from model.tensors.ops import FALLBACK, choose, in_float32, mean_over, min_max

# Average pooling over square, tall and wide neighbourhoods: size, stride, padding. The padding's zeros count in a mean.
KERNELS = (((5, 5), 1, (2, 2)), ((7, 1), 1, (3, 0)), ((1, 7), 1, (0, 3)))
PRIOR_EPS = 1e-7
FOREGROUND_ABOVE, BACKGROUND_BELOW = 0.7, 0.4  # of the prior of a query position
AMBIGUOUS_BETWEEN = (0.4, 0.55)  # open interval of the prior in which a position is hard to tell
DROPOUT = 0.1


@torch.no_grad()
@in_float32
def pooled_directions(support_f4_nchw: Tensor, mask: Mask) -> Tensor:
    """Return sum_j s_j / |s_j| of n supports under each kernel, (n, 3, C) float32."""
    support = support_f4_nchw * mask.on(support_f4_nchw.shape[-2:])
    directions = []
    for kernel in KERNELS:
        pooled_bcl = F.avg_pool2d(support, *kernel).flatten(2)
        length_bl = pooled_bcl.norm(dim=1).clamp(min=PRIOR_EPS)
        total_bc1 = pooled_bcl @ (1 / length_bl).unsqueeze(2)
        directions.append(total_bc1.squeeze(2))
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
    middle = max(positions // 2 - fallback // 2, 0)  # first rank around the median
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
        both = torch.cat([text_bt, prototype_bc.to(text_bt.dtype)], dim=1)
        question_bc = self.query(both) @ self.bilinear  # q U
        score_b1l = torch.bmm(question_bc.unsqueeze(1).to(key_bcl.dtype), key_bcl)
        weight_b1l = score_b1l.float().softmax(dim=2).to(key_bcl.dtype)
        attended_bc = torch.bmm(weight_b1l, key_bcl.transpose(1, 2)).squeeze(1)
        return prototype_bc + self.dropout(self.project(attended_bc))
