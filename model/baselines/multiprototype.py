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
from model.contract import Episode, Output, register

ABSENT = -1e4  # score of a class without points: below every product of cosines, and finite in sums
SAME = 1e-6  # points are equal where 1 - cosine is at most this: rounding, with one support among the shots twice
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
    replays = False  # steps depend on values
    cannot_export = "the points that it clusters depend on the supports' content"
    settings: MultiPrototypeSettings

    @torch.no_grad()
    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the score of each class as logits (B, N + 1, H, W); the background's points are of all supports."""
        query, shots = self.encode_classes(episodes)
        classes, size, scores = range(len(episodes) + 1), episodes[0].query.shape[-2:], []
        with torch.autocast(query.device.type, enabled=False):
            supports = [[(f[item], label[item]) for f, label in shots] for item in range(len(query))]
            for features, own in zip(query, points_of(supports, classes)):
                centres = [spherical_kmeans(of_class, self.settings.k) for of_class in own]
                scores.append(class_scores(features, centres, size, self.settings.rule))
        logits = torch.stack(scores)
        return Output(logits, presence_features=logits[:, 1:].flatten(2).amax(-1, keepdim=True))


def class_scores(query_chw: Tensor, centres: Sequence[Tensor], size: Sequence[int], rule: Rule) -> Tensor:
    """Return the score of each class at every pixel, (N + 1, H, W) float32; ``ABSENT`` for a class without centres.

    It is the largest cosine to a centre (k', C) of the class, times the mean one for ``max_mean``, after resizing.
    """
    scores = [query_chw.new_full(tuple(size), ABSENT) for _ in centres]
    for i, of_class in enumerate(centres):
        if len(of_class):
            cosines = resize_cells(torch.einsum("kc,chw->khw", of_class, query_chw)[None], size)[0]
            scores[i] = cosines.amax(0) * cosines.mean(0) if rule == "max_mean" else cosines.amax(0)
    return torch.stack(scores)


def points_of(supports: Sequence[Sequence[tuple[Tensor, Tensor]]], classes: Sequence[int]) -> list[list[Tensor]]:
    """Return the unit features (n, C) of the cells of each class, of the supports of every query; n may be 0.

    Supports are unit features (C, h, w) and a label map (H, W); class 0 is the background, 255 of no class. The cells
    are those of all supports, shot-major, then row-major.
    """
    points, inside = [], []
    for own in supports:
        points.append(torch.cat([f.flatten(1).T for f, _ in own]).expand(len(classes), -1, -1))
        masks = [[mask_on_grid(label == c, f.shape[1:]).flatten() for f, label in own] for c in classes]
        inside.append(torch.stack([torch.cat(of_class) for of_class in masks]))
    return [cells.rows(x) for x, cells in zip(points, chosen(*inside))]


def spherical_kmeans(points_nc: Tensor, k: int) -> Tensor:
    """Return at most k centres (k', C) of unit vectors (n, C) by cosine; all points if there are at most k.

    It starts from the point nearest to the mean and, each time, the one farthest from those chosen. Ties go to the
    lowest index, so that the result depends on the order of points only there. A centre without points stays where it
    is. Rounds after the last change alter nothing; a CPU leaves them out, a GPU is not waited for.
    """
    if len(points_nc) <= k:
        return points_nc
    start = (points_nc @ F.normalize(points_nc.mean(0), dim=0)).argmax()
    found = [points_nc.index_select(0, start[None])[0]]
    largest = points_nc @ found[0]  # cosine to the nearest centre so far
    while len(found) < k:
        found.append(points_nc.index_select(0, largest.clamp(max=1 - SAME).argmin()[None])[0])
        largest = torch.maximum(largest, points_nc @ found[-1])
    centres, assigned = torch.stack(found), None
    for _ in range(20):  # rounds
        nearest = (points_nc @ centres.T).argmax(1)
        if assigned is not None and nearest.is_cpu and torch.equal(nearest, assigned):
            break
        assigned = nearest
        members = F.one_hot(assigned, k).to(points_nc.dtype)  # (n, k)
        total = members.T @ points_nc  # in one order: sums by ``index_add_`` on a GPU are in another at each call
        occupied = members.any(0)
        centres = torch.where(occupied[:, None], F.normalize(total, dim=1), centres)
    return centres
