"""Sym-Net's steps: the hyper-correlation, the self-activation prior, and the query's prototypes with the class name.

The hyper-correlation is the similarity of query and support at every intermediate feature map, as a few maps per
encoder stage: for query position i and a support position j inside the object, c_ij = max(0, <q_i, s_j> / (|q_i|
|s_j|)), which a head reduces over the support's positions at once, as a weighted sum. Of a support only the m of
L = h w positions inside the object are kept, with C channels 4 m C bytes of each map. The prior is a pseudo mask of the
query by the high-level similarity to the supports' foreground.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encode import of_each_shot
from model.episode import Batch
from model.tensors.mask import Mask, Positions, inside
from model.tensors.ops import FALLBACK, choose, in_float32, mean_over, min_max, resize
from model.tensors.products import products_with_maps

OUT_CHANNELS = 48  # of H
MAP_CHANNELS = OUT_CHANNELS + 1  # of the decoder's inputs besides feature and prototype: H and P
NORM_EPS = 1e-5
# Average pooling over square, tall and wide neighbourhoods: size, stride, padding. The padding's zeros count in a mean.
KERNELS = (((5, 5), 1, (2, 2)), ((7, 1), 1, (3, 0)), ((1, 7), 1, (0, 3)))
PRIOR_EPS = 1e-7
FOREGROUND_ABOVE, BACKGROUND_BELOW = 0.7, 0.4  # of the prior of a query position
AMBIGUOUS_BETWEEN = (0.4, 0.55)  # open interval of the prior in which a position is hard to tell
DROPOUT = 0.1


@dataclass
class ObjectMaps(Batch):
    """The intermediate features of n supports at the positions inside their objects, up to m of them."""

    directions: dict[int, list[Tensor]]  # stage -> of each map s_j / |s_j|, (n, m, C) float32; 0 where there are fewer
    weights: dict[int, Tensor]  # stage -> the weight of each position in every cell of the head, (n, m, cells)

    def block(self, stage: int, number: int) -> "ObjectMap":
        """Return the features at a stage's block of that number."""
        return ObjectMap(self.directions[stage][number], self.weights[stage])


@dataclass
class ObjectMap(Batch):
    """The features of n supports at one block; see ``ObjectMaps``."""

    directions: Tensor  # (n, m, C)
    weights: Tensor  # (n, m, cells)


@torch.no_grad()
@in_float32
def correlation(query_bchw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
    """Return the correlation with each of K shots, summed with the weights of k cells, its mean (B, k, h, w) float32.

    A shot without a position counts as zeros. With unit vectors q and s of one shot it equals
    ``torch.einsum("nmk,nmc,nchw->nkhw", weights, s, q)`` but for the clamp of each product <q_i, s_j> before the sum
    over j; clamp and sum commute with the length |q_i|, which divides last.
    """

    def summed(shot: ObjectMap) -> Tensor:
        products_nml = products_with_maps(shot.directions, query_bchw)  # <q_i, s_j> / |s_j|
        return shot.weights.transpose(1, 2) @ products_nml.clamp_(min=0)  # (n, k, L)

    mean_bkl = of_each_shot(summed, shots, len(query_bchw)).mean(1)
    length_b1l = query_bchw.flatten(2).norm(dim=1, keepdim=True)
    cosine_bkl = mean_bkl / (length_b1l + NORM_EPS)
    return cosine_bkl.unflatten(2, query_bchw.shape[-2:])


class PooledCorrelation(nn.Module):
    """The published head: one map per intermediate feature map, the mean over support positions inside the mask.

    Of each intermediate feature map of a query the part of its correlation that is kept is found as the encoder
    produces the map, without gradient. ``squeeze`` reduces each stage's kept parts; ``out_counts`` are the numbers of
    maps that it gives. Another head has other ``weights``, and overrides both.
    """

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(intermediate_counts)

    @torch.no_grad()
    def object_maps(self, blocks: Iterable[tuple[int, Tensor]], mask: Mask) -> ObjectMaps:
        """Return what the correlation reads of n supports' maps, stage after stage, as they come."""
        directions: dict[int, list[Tensor]] = defaultdict(list)
        weights: dict[int, Tensor] = {}
        for stage, block_nchw in blocks:
            size = block_nchw.shape[-2:]
            positions = mask.positions(size, inside)
            block_nlc = block_nchw.flatten(2).transpose(1, 2)
            rows_nmc = positions.padded(block_nlc).float()
            length_nm1 = rows_nmc.norm(dim=2, keepdim=True)
            directions[stage].append(rows_nmc / (length_nm1 + NORM_EPS))
            if stage not in weights:
                weights[stage] = self.weights(positions, size)
        return ObjectMaps(dict(directions), weights)

    def weights(self, positions: Positions, size: Sequence[int]) -> Tensor:
        """Return the weight of each position in each of k cells, (n, m, k); padding rows count for nothing."""
        amounts = positions.inside.sum(1).clamp(min=1)
        rows = positions.places.shape[1]
        return (1 / amounts).view(-1, 1, 1).expand(-1, rows, 1)

    def of_query(self, blocks: Iterable[tuple[int, Tensor]], objects: Sequence[ObjectMaps]) -> dict[int, Tensor]:
        """Return stage -> (B, M, h, w), of a query's blocks with the objects of K shots; a plain mean over shots."""
        kept: dict[int, list[Tensor]] = defaultdict(list)
        for stage, block in blocks:
            shots = [maps.block(stage, number=len(kept[stage])) for maps in objects]
            kept[stage].append(self(block, shots))
        return self.squeeze(kept)

    def forward(self, query_bchw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
        """Return the correlation of a query's block with that of K shots, (B, k, h, w) float32; see ``correlation``."""
        return correlation(query_bchw, shots)

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, M, h, w), the maps of its M intermediate feature maps."""
        return {stage: torch.cat(maps, dim=1) for stage, maps in kept.items()}


class CorrelationFusion(nn.Module):
    """Fuse the stages' correlation maps from the deepest to the shallowest into H, (B, 48, h, w)."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        width = 16
        self.enter = nn.ModuleDict({str(stage): nn.Conv2d(n, width, 1) for stage, n in counts.items()})
        self.top = nn.Sequential(*_mix(width))
        self.bottom = nn.Sequential(*_mix(width), nn.Conv2d(width, OUT_CHANNELS, 3, padding=1))

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Return H on stage 3's grid; VGG's stage 2 has a finer grid and is resized."""
        grid = maps[3].shape[-2:]
        c2, c3, c4 = (resize(maps[stage], grid) for stage in (2, 3, 4))  # (B, M, h, w) each
        deep = self.enter["3"](c3) + self.enter["4"](c4)
        top = self.top(deep)  # T, (B, 16, h, w)
        return self.bottom(top + self.enter["2"](c2))


def _mix(width: int) -> list[nn.Module]:
    """Return a convolution, a norm over all channels and a ReLU."""
    return [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU(inplace=True)]


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
