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
from model.common.ops import in_float32, resize
from model.common.with_encoder import GiveOf

OUT_CHANNELS = 48
NORM_EPS = 1e-5
INSIDE = 1 - 1e-6  # resized mask value from which a support position lies entirely inside the object


class ObjectMap(NamedTuple):
    """A support's intermediate feature at the positions inside its object."""

    direction_mc: Tensor  # s_j / |s_j|, float32
    inside: Chosen  # the m positions, of one grid


def wholly_inside(mask_n1hw: Tensor) -> Tensor:
    """Return the positions (N, h, w) of a mask that lie inside the object."""
    return mask_n1hw[:, 0] >= INSIDE


@torch.no_grad()
@in_float32
def object_maps(support_nchw: Tensor, objects: Objects) -> list[ObjectMap]:
    """Return what the correlation reads of an intermediate feature of N supports; ``objects`` choose ``inside``."""
    inside = objects.on(support_nchw.shape[-2:]).chosen["inside"]
    rows = inside.rows(support_nchw.flatten(2).transpose(1, 2))
    units = (chosen_mc / (chosen_mc.norm(dim=1, keepdim=True) + NORM_EPS) for chosen_mc in rows)
    return [ObjectMap(unit, inside[i : i + 1]) for i, unit in enumerate(units)]


@torch.no_grad()
@in_float32
def correlation(
    query_1chw: Tensor, shots: Sequence[ObjectMap], reduce: Callable[[Tensor, Chosen], Tensor], cells: int = 1
) -> Tensor:
    """Return each shot's correlation, reduced by ``reduce`` and averaged over shots, (1, h, w, cells) float32.

    ``reduce`` makes (L, cells) of c_ij (L, m) and the m positions inside; with fixed shapes m = L, c_ij = 0 outside. A
    shot without a position counts as zeros. Clamp and reduction commute with the length |q_i|, which divides last.
    """
    length_l1 = query_1chw[0].flatten(1).norm(dim=0).unsqueeze(1) + NORM_EPS
    out = torch.zeros(len(length_l1), cells, device=length_l1.device)
    for direction_mc, inside in shots:
        if len(direction_mc):
            # A convolution: on channels-last maps, a multi-core CPU needs half the time of a matrix product.
            correlation_mhw = F.conv2d(query_1chw, direction_mc[:, :, None, None])[0].clamp_(min=0)
            out += reduce(correlation_mhw.flatten(1).T, inside) / len(shots)
    return (out / length_l1).unflatten(0, query_1chw.shape[-2:]).unsqueeze(0)


class PooledCorrelation(nn.Module):
    """The published head: one map per intermediate feature map, the mean over support positions inside the mask.

    Each call receives one intermediate feature map of a query as the encoder produces it, and returns the part of its
    correlation that is kept, without gradient. ``squeeze`` reduces each stage's kept parts; ``out_counts`` are the
    numbers of maps that it gives. Another head overrides both.
    """

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(intermediate_counts)

    def forward(self, query_1chw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
        """Return the mean correlation, (1, h, w) float32; see ``correlation``."""
        return correlation(query_1chw, shots, lambda c, inside: c.sum(1, keepdim=True) / inside.amount())[..., 0]

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, n, h, w), the maps of its n intermediate feature maps."""
        return {stage: torch.stack(maps, dim=1) for stage, maps in kept.items()}


class Correlations:
    """The correlations of B episodes, from features that arrive one by one: the shots', then the queries'."""

    def __init__(self, head: PooledCorrelation):
        self.head = head
        self._shots: list[dict[tuple[int, int], list[ObjectMap]]] = []  # of each shot: (stage, support) -> features
        self._kept: dict[int, dict[int, list[Tensor]]] = defaultdict(lambda: defaultdict(list))  # stage, query -> parts

    def shot(self, objects: Objects) -> GiveOf:
        """Begin a shot of B supports, or one that queries share; return the function that receives their features."""
        found: dict[tuple[int, int], list[ObjectMap]] = defaultdict(list)
        self._shots.append(found)

        def keep(stage: int, first: int, maps_nchw: Tensor) -> None:
            for image, own in enumerate(object_maps(maps_nchw, objects[first : first + len(maps_nchw)]), first):
                found[stage, image].append(own)

        return keep

    def query(self, stage: int, first: int, maps_nchw: Tensor) -> None:
        """Correlate the queries ``first`` to ``first`` + n - 1 with their supports."""
        for b, query_1chw in enumerate(maps_nchw.split(1), first):
            kept = self._kept[stage][b]
            own = [shot[stage, b if (stage, b) in shot else 0][len(kept)] for shot in self._shots]
            kept.append(self.head(query_1chw, own))

    def take(self) -> dict[int, list[Tensor]]:
        """Return stage -> the kept part of each of its maps, (B, ...), and release the supports."""
        out = {stage: [torch.cat(x) for x in zip(*kept.values())] for stage, kept in self._kept.items()}
        self._shots.clear()
        self._kept.clear()
        return out


class CorrelationFusion(nn.Module):
    """Fuse the stages' correlation maps from the deepest to the shallowest into H, (B, 48, h, w)."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        width = 16
        self.enter = nn.ModuleDict({str(stage): nn.Conv2d(n, width, 1) for stage, n in counts.items()})
        top, bottom = (
            [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU(inplace=True)] for _ in range(2)
        )
        self.top = nn.Sequential(*top)
        self.bottom = nn.Sequential(*bottom, nn.Conv2d(width, OUT_CHANNELS, 3, padding=1))

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Return H on stage 3's grid; VGG's stage 2 has a finer grid and is resized."""
        c2, c3, c4 = (resize(maps[stage], maps[3].shape[-2:]) for stage in (2, 3, 4))  # (B, n, h, w) each
        top = self.top(self.enter["3"](c3) + self.enter["4"](c4))  # T, (B, 16, h, w)
        return self.bottom(top + self.enter["2"](c2))
