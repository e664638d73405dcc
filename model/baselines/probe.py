"""Linear probe: a query's cells are classified by a logistic regression that was fitted to the supports' cells.

Nothing is trained beforehand. With many supports it is better than prototypes, with few worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.baselines.regression import Head, examples_of, fit
from model.common.ops import resize_cells
from model.common.training_free import OnCells, TrainingFreeSettings
from model.common.with_encoder import Shot
from model.contract import Task
from model.episode import IGNORE, CachedFeatures, Episode, EpisodeOfOriginalSizes, Output
from model.registry import register

HEADS_KEPT = 8  # of the last supports
KEY_STEP = 8  # px between the pixels by which images are told apart


@dataclass
class ProbeSettings(TrainingFreeSettings):
    """The probe's settings; ``config/model/probe.yaml`` explains them."""

    stage: int | list[int] = field(default_factory=lambda: [3, 4], metadata={"low": 2, "high": 4, "length": (1, 3)})
    penalty: float = field(default=0.3, metadata={"low": 0})


@dataclass(frozen=True)
class Fitted:
    """A head, and the supports that it was fitted to."""

    supports: list[CachedFeatures]
    labels: list[Tensor]
    head: Head

    def is_of(self, supports: list[CachedFeatures], labels: list[Tensor]) -> bool:
        """Return whether these are the same features with equal labels."""
        return (
            len(supports) == len(self.supports)
            and all(one is other for one, other in zip(supports, self.supports))
            and all(torch.equal(one, other) for one, other in zip(labels, self.labels, strict=True))
        )


@register("probe")
class Probe(OnCells):
    """Multinomial logistic regression on the cells of all supports. Nothing learns beforehand."""

    Settings = ProbeSettings
    title = "linear probe"
    never_compiled = ("_heads",)
    cannot_export = "it is fitted to the supports by an optimiser"
    settings: ProbeSettings

    def __init__(self, settings: ProbeSettings, task: Task):
        super().__init__(settings, task)
        self._fitted: list[Fitted] = []

    @torch.no_grad()
    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return logits (B, N + 1, H, W) of N classes, background first.

        Args:
            episodes: one for each class, with the same B queries.
        """
        encoded = [self.encode_each(episode, self.compared) for episode in self.sharing_queries(episodes)]
        query, shots = encoded[0][0], [own for _, own in encoded]
        with torch.autocast(query.device.type, enabled=False):
            heads = self._heads(episodes, shots)
            logits = torch.cat([head.logits(features[None]) for head, features in zip(heads, query)])
            return Output(resize_cells(logits, episodes[0].query.shape[-2:]))

    def _heads(self, episodes: Sequence[Episode], shots: list[list[Shot]]) -> list[Head]:
        """Return the head of each of the B queries; those that share supports, one call after the other too, share it.

        Args:
            shots: of each class.
        """
        items = range(len(episodes[0].query))
        if not all(map(_shares_supports, episodes)):
            return [self._fit(episodes, shots, item) for item in items]
        supports = [part for episode in episodes for part in episode.cached_support or ()]
        labels = [label[:1] for own in shots for _, label in own]
        found = next((one for one in self._fitted if one.is_of(supports, labels)), None)
        if found is None:
            found = Fitted(supports, labels, self._fit(episodes, shots, 0))
            self._fitted = [found, *self._fitted][:HEADS_KEPT]
        return [found.head for _ in items]

    def _fit(self, episodes: Sequence[Episode], shots: list[list[Shot]], item: int) -> Head:
        """Return the head for one query of the batch."""
        labels = _joint_labels(episodes, item)
        features = [of_shot[item] for own in shots for of_shot, _ in own]
        return fit(examples_of(list(zip(features, labels, strict=True)), len(episodes)), self.settings.penalty)


def _joint_labels(episodes: Sequence[Episode], item: int) -> list[Tensor]:
    """Return the labels (H, W) of all shots of N classes: 0, the number of the class, or 255.

    Where an image supports several classes, the objects of the others are unknown to each: they are not background.
    """
    objects: dict[bytes, Tensor] = {}  # by image: where any class has its object
    shots = [(number, _key(x), y) for number, e in enumerate(episodes, 1) for x, y in e.shots(item)]
    for _, key, label in shots:
        inside = label == 1
        objects[key] = objects[key] | inside if key in objects else inside
    return [
        label.masked_fill((label == 0) & objects[key], IGNORE).masked_fill(label == 1, number)
        for number, key, label in shots
    ]


def _key(image: Tensor) -> bytes:
    """Return some of an image's pixels, by which images are told apart."""
    return image[..., ::KEY_STEP, ::KEY_STEP].float().cpu().numpy().tobytes()


def _shares_supports(episode: Episode) -> bool:
    """Return whether all queries of an episode have the same supports, whose features it brings along."""
    if isinstance(episode, EpisodeOfOriginalSizes) or episode.cached_support is None:
        return False
    return sum(map(len, episode.cached_support)) == episode.support.shape[1]  # type: ignore[arg-type]
