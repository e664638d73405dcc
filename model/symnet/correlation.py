"""Hyper-correlation: query-support similarity at every intermediate feature map, as a few maps per encoder stage.

For query position i and a support position j inside the object, c_ij = max(0, <q_i, s_j> / (|q_i| |s_j|)), which a head
reduces over the support's positions at once, as a weighted sum. Of a support only the m of L = h w positions inside the
object are kept, with C channels 4 m C bytes of each map.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.episode import Batch
from model.tensors.mask import Mask, Positions, inside
from model.tensors.ops import in_float32, joined, resize

OUT_CHANNELS = 48
NORM_EPS = 1e-5


@dataclass
class ObjectMaps(Batch):
    """The intermediate features of N supports at the positions inside their objects, up to m of them."""

    directions: dict[int, list[Tensor]]  # stage -> of each map s_j / |s_j|, (N, m, C) float32; 0 where there are fewer
    weights: dict[int, Tensor]  # stage -> the weight of each position in every cell of the head, (N, m, cells)


@torch.no_grad()
@in_float32
def correlation(query_bchw: Tensor, directions_nmc: Sequence[Tensor], weights_nmk: Sequence[Tensor]) -> Tensor:
    """Return each shot's correlation, summed with the weights of k cells and averaged over shots, (B, k, h, w) float32.

    Directions and weights are of n shots with N = n B supports each, shot after shot. A shot without a position counts
    as zeros. Clamp and sum commute with the length |q_i|, which divides last.
    """
    batch = len(query_bchw)
    sums = []  # of each group (n B, k, L)
    for directions, weights in zip(directions_nmc, weights_nmk, strict=True):
        sums.append(weights.transpose(1, 2) @ _clamped_products(query_bchw, directions))
    total_nkl = joined(sums)
    mean_bkl = total_nkl.unflatten(0, (-1, batch)).mean(0)
    length_b1l = query_bchw.flatten(2).norm(dim=1, keepdim=True) + NORM_EPS
    return (mean_bkl / length_b1l).unflatten(2, query_bchw.shape[-2:])


def _clamped_products(query_bchw: Tensor, direction_nmc: Tensor) -> Tensor:
    """Return max(0, <q_i, s_j> / |s_j|) of B queries and N = n B supports, shot after shot, (N, m, L)."""
    if len(direction_nmc) == 1 and direction_nmc.shape[1]:
        # On channels-last maps, a multi-core CPU needs half the time of a matrix product.
        products_nml = F.conv2d(query_bchw, direction_nmc[0, :, :, None, None]).flatten(2)
    else:
        rows = direction_nmc.unflatten(0, (-1, len(query_bchw)))
        products_nml = torch.matmul(rows, query_bchw.flatten(2)).flatten(0, 1)
    return products_nml.clamp_(min=0)


class PooledCorrelation(nn.Module):
    """The published head: one map per intermediate feature map, the mean over support positions inside the mask.

    Each call receives one intermediate feature map of a query as the encoder produces it, and returns the part of its
    correlation that is kept, without gradient. ``squeeze`` reduces each stage's kept parts; ``out_counts`` are the
    numbers of maps that it gives. Another head has other ``weights``, and overrides both.
    """

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(intermediate_counts)

    @torch.no_grad()
    def object_maps(self, blocks: Iterable[tuple[int, Tensor]], mask: Mask) -> ObjectMaps:
        """Return what the correlation reads of N supports' maps, stage after stage, as they come."""
        directions: dict[int, list[Tensor]] = defaultdict(list)
        weights: dict[int, Tensor] = {}
        for stage, block_nchw in blocks:
            size = block_nchw.shape[-2:]
            positions = mask.positions(size, inside)
            rows_nmc = positions.padded(block_nchw.flatten(2).transpose(1, 2)).float()
            directions[stage].append(rows_nmc / (rows_nmc.norm(dim=2, keepdim=True) + NORM_EPS))
            if stage not in weights:
                weights[stage] = self.weights(positions, size)
        return ObjectMaps(dict(directions), weights)

    def weights(self, positions: Positions, size: Sequence[int]) -> Tensor:
        """Return the weight of each position in each of k cells, (N, m, k); rows of no position are read by nobody."""
        amounts = positions.inside.sum(1).clamp(min=1)
        rows = positions.places.shape[1]
        return (1 / amounts).view(-1, 1, 1).expand(-1, rows, 1)

    def forward(self, query_bchw: Tensor, groups: Sequence[ObjectMaps], stage: int, number: int) -> Tensor:
        """Return the correlation of a stage's map of that number, (B, k, h, w) float32; see ``correlation``."""
        directions = [maps.directions[stage][number] for maps in groups]
        return correlation(query_bchw, directions, [maps.weights[stage] for maps in groups])

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, n, h, w), the maps of its n intermediate feature maps."""
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
        c2, c3, c4 = (resize(maps[stage], maps[3].shape[-2:]) for stage in (2, 3, 4))  # (B, n, h, w) each
        top = self.top(self.enter["3"](c3) + self.enter["4"](c4))  # T, (B, 16, h, w)
        return self.bottom(top + self.enter["2"](c2))


def _mix(width: int) -> list[nn.Module]:
    """Return a convolution, a norm over all channels and a ReLU."""
    return [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU(inplace=True)]
