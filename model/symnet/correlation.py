"""Hyper-correlation: query-support similarity at every intermediate feature map, as a few maps per encoder stage.

For query position i and a support position j inside the object, c_ij = max(0, <q_i, s_j> / (|q_i| |s_j|)), which a head
reduces over the support's positions at once. Of a support only the positions inside the object are kept, so that the
supports can be encoded one by one before the query: m of L = h w positions with C channels, 4 m C bytes.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.fixed_shapes import Chosen, Objects
from model.common.ops import in_float32, joined, resize
from model.common.with_encoder import GiveOf

OUT_CHANNELS = 48
NORM_EPS = 1e-5
INSIDE = 1 - 1e-6  # resized mask value from which a support position lies entirely inside the object


class ObjectMap(NamedTuple):
    """An intermediate feature of N supports at the positions inside their objects, up to m of them."""

    direction_nmc: Tensor  # s_j / |s_j|, float32; 0 where an object has fewer positions
    inside: Chosen  # the positions, of N grids


def full_overlap(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (N, h, w) of a mask that lie inside the object."""
    return mask_n1hw[:, 0] >= INSIDE


@torch.no_grad()
@in_float32
def object_map(support_nchw: Tensor, objects: Objects) -> ObjectMap:
    """Return what the correlation reads of an intermediate feature of N supports; ``objects`` choose ``inside``."""
    inside = objects.on(support_nchw.shape[-2:]).chosen["inside"]
    rows_nmc = inside.padded(support_nchw.flatten(2).transpose(1, 2))
    return ObjectMap(rows_nmc / (rows_nmc.norm(dim=2, keepdim=True) + NORM_EPS), inside)


@torch.no_grad()
@in_float32
def correlation(
    query_bchw: Tensor, groups: Sequence[ObjectMap], reduce: Callable[[Tensor, Chosen], Tensor], cells: int = 1
) -> Tensor:
    """Return each shot's correlation, reduced by ``reduce`` and averaged over shots, (B, h, w, cells) float32.

    ``groups`` are of n shots with N = n B supports each, shot after shot. ``reduce`` makes (N, L, cells) of c_ij
    (N, L, m) and the m positions inside; where an object has fewer, c_ij = 0. A shot without a position counts as
    zeros. Clamp and reduction commute with the length |q_i|, which divides last.
    """
    batch = len(query_bchw)
    shots = sum(len(group.direction_nmc) for group in groups) // batch
    length_bl1 = query_bchw.flatten(2).norm(dim=1).unsqueeze(2) + NORM_EPS
    reduced = []
    for direction_nmc, inside in groups:
        if direction_nmc.shape[1]:
            reduced.append(reduce(_clamped_products(query_bchw, direction_nmc), inside))
    if not reduced:
        return length_bl1.new_zeros(batch, *query_bchw.shape[-2:], cells)
    total = joined(reduced).unflatten(0, (-1, batch)).sum(0) / shots
    return (total / length_bl1).unflatten(1, query_bchw.shape[-2:])


def _clamped_products(query_bchw: Tensor, direction_nmc: Tensor) -> Tensor:
    """Return max(0, <q_i, s_j> / |s_j|) of B queries and N = n B supports, shot after shot, (N, L, m)."""
    if len(direction_nmc) == 1:  # on channels-last maps, a multi-core CPU needs half the time of a matrix product
        products_nml = F.conv2d(query_bchw, direction_nmc[0, :, :, None, None]).flatten(2)
    else:
        rows = direction_nmc.unflatten(0, (-1, len(query_bchw)))
        products_nml = torch.matmul(rows, query_bchw.flatten(2)).flatten(0, 1)
    return products_nml.clamp_(min=0).transpose(1, 2)


class PooledCorrelation(nn.Module):
    """The published head: one map per intermediate feature map, the mean over support positions inside the mask.

    Each call receives one intermediate feature map of a query as the encoder produces it, and returns the part of its
    correlation that is kept, without gradient. ``squeeze`` reduces each stage's kept parts; ``out_counts`` are the
    numbers of maps that it gives. Another head overrides both.
    """

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(intermediate_counts)

    def forward(self, query_bchw: Tensor, groups: Sequence[ObjectMap]) -> Tensor:
        """Return the mean correlation, (B, h, w) float32; see ``correlation``."""
        return correlation(query_bchw, groups, _mean_over_object)[..., 0]

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, n, h, w), the maps of its n intermediate feature maps."""
        return {stage: torch.stack(maps, dim=1) for stage, maps in kept.items()}


def _mean_over_object(clamped_nlm: Tensor, inside: Chosen) -> Tensor:
    return clamped_nlm.sum(2, keepdim=True) / inside.amounts().view(-1, 1, 1)


class Correlations:
    """The correlations of B episodes, from features that arrive one by one: the shots', then the queries'."""

    def __init__(self, head: PooledCorrelation):
        self.head = head
        self._shots: list[dict[tuple[int, int], list[ObjectMap]]] = []  # of each shot: (stage, support) -> features
        # Stage, first query -> parts.
        self._kept: dict[int, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))

    def at_once(self, objects: Objects, batch: int) -> GiveOf:
        """Return the function that receives the features of B queries and, after them, of all their supports."""

        def correlate(stage: int, first: int, maps_nchw: Tensor) -> None:
            supports = object_map(maps_nchw[batch:], objects)
            self._kept[stage][first].append(self.head(maps_nchw[:batch], [supports]))

        return correlate

    def shot(self, objects: Objects) -> GiveOf:
        """Begin a shot of B supports, or one that queries share; return the function that receives their features."""
        object_maps: dict[tuple[int, int], list[ObjectMap]] = defaultdict(list)
        self._shots.append(object_maps)

        def keep(stage: int, first: int, maps_nchw: Tensor) -> None:
            for i, image in enumerate(maps_nchw.split(1), first):
                object_maps[stage, i].append(object_map(image, objects[i : i + 1]))

        return keep

    def query(self, stage: int, first: int, maps_nchw: Tensor) -> None:
        """Correlate the queries ``first`` to ``first`` + n - 1 with their supports."""
        for b, query_1chw in enumerate(maps_nchw.split(1), first):
            kept = self._kept[stage][b]
            supports = []
            for shot in self._shots:
                support = b if (stage, b) in shot else 0  # one that all queries share
                supports.append(shot[stage, support][len(kept)])
            kept.append(self.head(query_1chw, supports))

    def take(self) -> dict[int, list[Tensor]]:
        """Return stage -> the kept part of each of its maps, (B, ...), and release the supports."""
        correlations = {}
        for stage, of_queries in self._kept.items():
            correlations[stage] = [joined(parts) for parts in zip(*of_queries.values())]
        self._shots.clear()
        self._kept.clear()
        return correlations


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
