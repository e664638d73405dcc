"""Sym-Net's hyper-correlation: the similarity of query and support at every intermediate feature map.

For query position i and a support position j inside the object it is c_ij = max(0, <q_i, s_j> / (|q_i| |s_j|)). A head
reduces it at once to a few maps for each encoder stage, weighted sums over the support's positions. Of a support
only the m of L = h w positions inside the object are kept, with C channels 4 m C bytes of each map.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.episode import Batch
from model.method import of_each_shot
from model.tensors.mask import Mask, Positions, inside
from model.tensors.ops import resize, weighted_sums
from model.tensors.products import products_with_maps

OUT_CHANNELS = 48  # of H
NORM_EPS = 1e-5


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
def correlation(query_bchw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
    """Return the correlation with each of K shots, summed with the weights of k cells, its mean (B, k, h, w) float32.

    A shot without a position counts as zeros. With unit vectors q and s of one shot it equals
    ``torch.einsum("nmk,nmc,nchw->nkhw", weights, s, q)`` but for the clamp of each product <q_i, s_j> before the sum
    over j; clamp and sum commute with the length |q_i|, which divides last. The products have the precision of the map.
    """

    def summed(shot: ObjectMap) -> Tensor:
        products_nml = products_with_maps(shot.directions.to(query_bchw.dtype), query_bchw)  # <q_i, s_j> / |s_j|
        return weighted_sums(shot.weights.transpose(1, 2), products_nml.clamp_(min=0))  # (n, k, L)

    mean_bkl = of_each_shot(summed, shots, len(query_bchw)).mean(1)
    length_b1l = query_bchw.float().flatten(2).norm(dim=1, keepdim=True)
    cosine_bkl = mean_bkl / (length_b1l + NORM_EPS)
    return cosine_bkl.unflatten(2, query_bchw.shape[-2:])


class PooledCorrelation(nn.Module):
    """The published head: one map per intermediate feature map, the mean over support positions inside the mask.

    The correlation of each feature map is reduced as soon as the encoder yields the map, without gradient. ``squeeze``
    makes of a stage's reduced correlations its maps, ``out_counts[stage]`` of them. Another head has other ``weights``,
    ``squeeze`` and ``out_counts``.
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
