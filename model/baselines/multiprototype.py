"""Multi-prototype baseline: a pixel takes the class whose k centres it resembles most. Nothing is trained.

The idea is FSSDINO's (arXiv:2602.07550); the start of k-means and the rules are defined here.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import chosen
from model.common.ops import resize_cells
from model.common.training_free import OnCells, TrainingFreeSettings, mask_on_grid
from model.common.with_encoder import Shot
from model.contract import Episode, Output, register

ABSENT = -1e4  # score of a class without points: below every product of cosines, and finite in sums
SAME = 1e-6  # points are equal where 1 - cosine is at most this: rounding, with one support among the shots twice
ROUNDS = 20  # of k-means, at most
Rule = Literal["max_mean", "max"]


@dataclass
class MultiPrototypeSettings(TrainingFreeSettings):
    """The method's settings; ``config/model/multiprototype.yaml`` explains them."""

    k: int = field(default=5, metadata={"low": 1})
    rule: Rule = "max_mean"


@register("multiprototype")
class MultiPrototype(OnCells):
    """Centres of every class's support features by k-means, and cosines to them. Nothing learns."""

    Settings = MultiPrototypeSettings
    title = "multi-prototype baseline"
    cannot_export = "the points that it clusters depend on the supports' content"
    settings: MultiPrototypeSettings

    @torch.no_grad()
    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the score of each class as logits (B, N + 1, H, W); the background's points are of all supports."""
        query, shots = self.encode_classes(episodes)
        classes = range(len(episodes) + 1)
        size = episodes[0].query.shape[-2:]
        scores = []
        with torch.autocast(query.device.type, enabled=False):
            supports = [shots_of_query(shots, item) for item in range(len(query))]
            for features, points in zip(query, points_of(supports, classes)):
                centres = [spherical_kmeans(of_class, self.settings.k) for of_class in points]
                scores.append(class_scores(features, centres, size, self.settings.rule))
        logits = torch.stack(scores)
        return Output(logits, presence_features=logits[:, 1:].flatten(2).amax(-1, keepdim=True))


def shots_of_query(shots: Sequence[Shot], item: int) -> list[Shot]:
    """Return features (C, h, w) and label (H, W) of the shots of one query of a batch."""
    return [(features[item], label[item]) for features, label in shots]


def class_scores(query_chw: Tensor, centres: Sequence[Tensor], size: Sequence[int], rule: Rule) -> Tensor:
    """Return the score of each class at every pixel, (N + 1, H, W) float32; ``ABSENT`` for a class without centres.

    It is the largest cosine to a centre (k', C) of the class, times the mean one for ``max_mean``, after resizing.
    """
    scores = []
    for centres_kc in centres:
        if not len(centres_kc):
            scores.append(query_chw.new_full(tuple(size), ABSENT))
            continue
        cosines_khw = torch.einsum("kc,chw->khw", centres_kc, query_chw)
        cosines = resize_cells(cosines_khw[None], size)[0]  # (k', H, W)
        score = cosines.amax(0)
        if rule == "max_mean":
            score = score * cosines.mean(0)
        scores.append(score)
    return torch.stack(scores)


def points_of(supports: Sequence[Sequence[Shot]], classes: Sequence[int]) -> list[list[Tensor]]:
    """Return the unit features (n, C) of the cells of each class, of the supports of every query; n may be 0.

    Supports are unit features (C, h, w) and a label map (H, W); class 0 is the background, 255 of no class. The cells
    are those of all supports, shot-major, then row-major.
    """
    points = []  # of each query (N + 1, n, C), the cells of all supports
    inside = []  # and where each class is, (N + 1, n) bool
    for shots in supports:
        cells_nc = torch.cat([features.flatten(1).T for features, _ in shots])
        points.append(cells_nc.expand(len(classes), -1, -1))
        inside.append(torch.stack([_cells_of_class(shots, number) for number in classes]))
    return [cells.rows(x) for x, cells in zip(points, chosen(*inside))]


def _cells_of_class(shots: Sequence[Shot], number: int) -> Tensor:
    """Return the cells of a class in all shots, bool (n,)."""
    return torch.cat([mask_on_grid(label == number, features.shape[1:]).flatten() for features, label in shots])


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
