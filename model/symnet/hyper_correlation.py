"""Hyper-correlation: query-support similarity at every intermediate feature map, as a few maps per encoder stage."""

from __future__ import annotations

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from model.common.ops import resize
from model.common.with_encoder import GiveOf
from model.symnet.intermediate_correlation import ObjectMap, intermediate_correlation, object_maps

FUSION_CHANNELS = 16
OUT_CHANNELS = 48


class CorrelationHead(nn.Module):
    """A reduction of 4D correlations to maps of the query, in two parts.

    Each call receives one intermediate feature map of a query as the encoder produces it, and returns the part of its
    correlation that is kept, without gradient. ``squeeze`` reduces each stage's kept parts and may have parameters.
    """

    out_counts: dict[int, int]  # stage -> maps that ``squeeze`` gives

    @abstractmethod
    def forward(self, query_1chw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
        """Return the kept part of the correlation, (1, ...) float32, of a query with its K supports."""

    @abstractmethod
    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, ``out_counts[stage]``, h, w) from stage -> the kept part of each of its maps."""


class PooledCorrelation(CorrelationHead):
    """The published head: one map per intermediate feature map, the mean over support positions inside the mask."""

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(intermediate_counts)

    def forward(self, query_1chw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
        """Return the mean correlation, (1, h, w) float32; see ``intermediate_correlation``."""
        return intermediate_correlation(query_1chw, shots, _mean_inside)[..., 0]

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, n, h, w), the maps of its n intermediate feature maps."""
        return {stage: torch.stack(maps, dim=1) for stage, maps in kept.items()}


class Correlations:
    """The correlations of B episodes, from intermediate features that arrive one by one: the shots', then the queries'.

    Args:
        head: of which the kept parts are.
    """

    def __init__(self, head: CorrelationHead):
        self.head = head
        self._objects: list[dict[int, list[list[ObjectMap]]]] = []  # shot -> stage -> support -> feature
        self._kept: dict[int, list[list[Tensor]]] = defaultdict(list)  # stage -> query -> feature

    def shot(self, mask_b1ss: Tensor) -> GiveOf:
        """Begin the next shot, and return the function that receives the features of its supports.

        It keeps what the head reads of them; the shot has B supports, or one that the queries share.
        """
        objects: dict[int, list[list[ObjectMap]]] = defaultdict(list)
        self._objects.append(objects)

        def keep(stage: int, first: int, maps_nchw: Tensor) -> None:
            masks = mask_b1ss[first : first + len(maps_nchw)]
            for image, found in enumerate(object_maps(maps_nchw, masks), first):
                _at(objects[stage], image).append(found)

        return keep

    def query(self, stage: int, first: int, maps_nchw: Tensor) -> None:
        """Correlate the queries ``first`` to ``first`` + n - 1 with their supports."""
        for b, query_1chw in enumerate(maps_nchw.split(1), first):
            kept = _at(self._kept[stage], b)
            own = [shot[stage][b % len(shot[stage])] for shot in self._objects]
            kept.append(self.head(query_1chw, [features[len(kept)] for features in own]))

    def take(self) -> dict[int, list[Tensor]]:
        """Return stage -> the kept part of each of its maps, (B, ...), and release the supports."""
        self._objects.clear()
        out = {stage: [torch.cat(x) for x in zip(*queries)] for stage, queries in self._kept.items()}
        self._kept.clear()
        return out


def _at(lists: list[list[Any]], index: int) -> list[Any]:
    """Return the list at ``index``, or a new one at the end."""
    if index == len(lists):
        lists.append([])
    return lists[index]


def _mean_inside(correlation_lm: Tensor, inside_l: Tensor) -> Tensor:
    """Return the mean over the support's positions inside the mask, (L, 1)."""
    return correlation_lm.sum(1, keepdim=True) / inside_l.sum().clamp(min=1)


class CorrelationFusion(nn.Module):
    """Fuse the stages' correlation maps from the deepest to the shallowest into H, (B, 48, h, w)."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        width = FUSION_CHANNELS
        self.enter = nn.ModuleDict({str(stage): nn.Conv2d(n, width, 1) for stage, n in counts.items()})
        self.top = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU(inplace=True))
        self.bottom = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(1, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, OUT_CHANNELS, 3, padding=1),
        )

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Return H on stage 3's grid; VGG's stage 2 has a finer grid and is resized."""
        c2, c3, c4 = (resize(maps[stage], maps[3].shape[-2:]) for stage in (2, 3, 4))  # (B, n, h, w) each
        top = self.top(self.enter["3"](c3) + self.enter["4"](c4))  # T, (B, 16, h, w)
        return self.bottom(top + self.enter["2"](c2))
