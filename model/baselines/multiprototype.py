"""Multi-prototype baseline: a pixel takes the class whose k centres it resembles most. Nothing is trained.

The idea is FSSDINO's (arXiv:2602.07550); the start of k-means and the rules are defined here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional as F

from model.contract import Episode, Output, Shot, register
from model.kinds.training_free import OnCells, TrainingFreeSettings, cells_of
from model.method import Maps
from model.tensors.cells import resize_cells
from model.tensors.mask import Mask, positions_of
from model.tensors.ops import in_float32

ABSENT = -1e4  # score of a class without points: below every product of cosines, and finite in sums
SAME = 1e-6  # points are equal where 1 - cosine is at most this: rounding, with one support among the shots twice
ROUNDS = 20  # of k-means, at most


@dataclass
class MultiPrototypeSettings(TrainingFreeSettings):
    """The method's settings."""

    k: int = field(default=5, metadata={"low": 1})  # centres of a class and of the background


@dataclass
class CellsShot(Shot):
    """The L cells of n supports; those of ignored pixels are of neither."""

    features: Tensor  # (n, L, C), of length 1
    is_object: Tensor  # (n, L) bool
    is_background: Tensor  # (n, L) bool


@register("multiprototype")
class MultiPrototype(OnCells):
    """Centres of every class's support features by k-means, and cosines to them. Nothing learns."""

    Settings = MultiPrototypeSettings
    title = "multi-prototype baseline"
    settings: MultiPrototypeSettings

    def support(self, maps: Maps, mask: Mask) -> CellsShot:
        """Return the cells of n supports."""
        features = self.compared(maps)
        size = features.shape[-2:]
        return CellsShot(
            features=features.flatten(2).transpose(1, 2),
            is_object=cells_of(mask.label == 1, size),
            is_background=cells_of(mask.label == 0, size),
        )

    def predict_classes(self, maps: Maps, shots: Sequence[Sequence[CellsShot]], episodes: Sequence[Episode]) -> Output:
        """Return the score of each class as logits (B, N + 1, H, W); the background's points are of all supports."""
        size = episodes[0].query.shape[-2:]
        points = points_of(shots)
        scores = []
        for item, query in enumerate(self.compared(maps)):
            centres = [spherical_kmeans(of_class[item], self.settings.k) for of_class in points]
            scores.append(class_scores(query, centres, size))
        logits = torch.stack(scores)
        return Output(logits, presence_features=logits[:, 1:].flatten(2).amax(-1, keepdim=True))


def points_of(shots: Sequence[Sequence[CellsShot]]) -> list[list[Tensor]]:
    """Return the unit features (n, C) of each class's cells, background first, for each of B queries; n may be 0.

    The cells are those of all shots of a class, of the background those of all classes; shot-major, then row-major.
    """
    every_shot = [shot for of_class in shots for shot in of_class]
    features = [torch.cat([shot.features for shot in every_shot], dim=1)]  # of the background, then of each class
    inside = [torch.cat([shot.is_background for shot in every_shot], dim=1)]
    for of_class in shots:
        features.append(torch.cat([shot.features for shot in of_class], dim=1))
        inside.append(torch.cat([shot.is_object for shot in of_class], dim=1))
    chosen = []
    for x, cells in zip(features, positions_of(*inside), strict=True):
        chosen.append([rows[index] for rows, index in zip(x, cells.index)])
    return chosen


@in_float32
def class_scores(query_chw: Tensor, centres: Sequence[Tensor], size: Sequence[int]) -> Tensor:
    """Return the score of each class at every pixel, (N + 1, H, W) float32; ``ABSENT`` for a class without centres.

    It is the largest cosine to a centre (k', C) of the class times the mean one, after resizing.
    """
    scores = []
    for centres_kc in centres:
        if not len(centres_kc):
            scores.append(query_chw.new_full(tuple(size), ABSENT))
            continue
        cosines_khw = torch.einsum("kc,chw->khw", centres_kc, query_chw)
        cosines = resize_cells(cosines_khw[None], size)[0]  # (k', H, W)
        scores.append(cosines.amax(0) * cosines.mean(0))
    return torch.stack(scores)


@in_float32
def spherical_kmeans(points_nc: Tensor, k: int) -> Tensor:
    """Return at most k centres (k', C) of unit vectors (n, C) by cosine; all points if there are at most k.

    It starts from the point nearest to the mean and, each time, the one farthest from those chosen. Ties go to the
    lowest index, so that the result depends on the order of points only there. A centre without points stays where it
    is. Rounds after the last change alter nothing; a CPU leaves them out, a GPU is not waited for.
    """
    if len(points_nc) <= k:
        return points_nc
    centres_kc = _first_centres(points_nc, k)
    assigned = None
    for _ in range(ROUNDS):
        nearest = (points_nc @ centres_kc.T).argmax(1)
        if assigned is not None and nearest.is_cpu and torch.equal(nearest, assigned):
            break
        assigned = nearest
        members = F.one_hot(assigned, k).to(points_nc.dtype)  # (n, k)
        total = members.T @ points_nc  # in one order: sums by ``index_add_`` on a GPU are in another at each call
        occupied = members.any(0)
        centres_kc = torch.where(occupied[:, None], F.normalize(total, dim=1), centres_kc)
    return centres_kc


def _first_centres(points_nc: Tensor, k: int) -> Tensor:
    """Return the k points (k, C) that k-means starts from."""
    mean = F.normalize(points_nc.mean(0), dim=0)
    nearest = (points_nc @ mean).argmax()
    centres = [points_nc.index_select(0, nearest[None])[0]]
    cosine = points_nc @ centres[0]  # of each point to the nearest centre so far
    while len(centres) < k:
        farthest = cosine.clamp(max=1 - SAME).argmin()
        centres.append(points_nc.index_select(0, farthest[None])[0])
        cosine = torch.maximum(cosine, points_nc @ centres[-1])
    return torch.stack(centres)
