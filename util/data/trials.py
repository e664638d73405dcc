"""The episodes of a test with the labels that their predictions are scored against, and batches of all items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar, cast

from torch import Tensor
from torch.utils.data import Dataset, default_collate

from model.episode import Batch, Episode
from util.data.episodes import EpisodeDataset, Sampler
from util.data.images.labels import numbered, relabelled
from util.data.images.views import ORIGINAL

Sample = TypeVar("Sample", bound=Batch)


@dataclass
class Trial(Batch):
    """B episodes of N ways, and the labels that their predictions are scored against, for each value of scored_on.

    Attributes:
        ways: N one-class episodes of the same B queries; each query's classes ascend.
        rows: of the index for each query: the query itself, then the supports of way after way.
        label: scored_on -> B labels (H', W') uint8 in {0, .., N, 255}, of any sizes.
        base_label: the same in base-class ids; empty for models without base labels.
        shown: height and width of each query within the network's input; the rest is padding.
    """

    ways: list[Episode]
    rows: list[tuple[int, ...]]
    label: dict[str, list[Tensor]]
    base_label: dict[str, list[Tensor]]
    shown: list[tuple[int, int]]

    @property
    def episode(self) -> Episode:
        """The episodes of the first way."""
        return self.ways[0]


class TrialDataset(Dataset):
    """The episodes of a test by number; ``scored_on`` names the labels to make."""

    def __init__(self, episodes: EpisodeDataset, scored_on: tuple[str, ...]):
        self.episodes, self.scored_on = episodes, scored_on

    @property
    def sampler(self) -> Sampler:
        """The sampler of the episodes."""
        return self.episodes.sampler

    @property
    def one_by_one(self) -> bool:
        """Whether images keep their original sizes, so that a batch can hold only one episode."""
        return self.episodes.view.rule == ORIGINAL

    def __getitem__(self, number: int) -> Trial:
        episodes = self.episodes
        key = episodes.sampler(number)
        image, classes = episodes.read(key.query)
        maps = {s: episodes.view.scored(classes, s) for s in self.scored_on}
        base = {s: [relabelled(m, episodes.fold.base_table)] for s, m in maps.items() if episodes.base_labels}
        values = [episodes.sampler.images.index.value_of(c) for c in key.classes]
        labels = {s: [numbered(m, values)] for s, m in maps.items()}
        query = episodes.evaluation_view(image, classes)
        ways = [episodes.episode(way, *query, [c for c in key.classes if c != way.class_id]) for way in key.ways]
        return Trial(ways, [key.rows], labels, base, [episodes.view.shown(image.shape)])


def collate(items: Sequence[Sample]) -> Sample:
    """Return the batch of single items: tensors are stacked, empty fields stay None, scored labels become lists."""
    first = items[0]
    if isinstance(first, Trial):
        return cast(Sample, _collate_trials(cast(Sequence[Trial], items)))
    values: dict[str, Any] = {}
    for field in fields(first):  # type: ignore[arg-type]  # every Batch is a dataclass
        of_items = [getattr(item, field.name) for item in items]
        values[field.name] = None if of_items[0] is None else default_collate(of_items)
    return type(first)(**values)


def _collate_trials(items: Sequence[Trial]) -> Trial:
    return Trial(
        ways=[collate(of_way) for of_way in zip(*(item.ways for item in items), strict=True)],
        rows=[row for item in items for row in item.rows],
        label=_joined([item.label for item in items]),
        base_label=_joined([item.base_label for item in items]),
        shown=[shown for item in items for shown in item.shown],
    )


def _joined(labels: Sequence[dict[str, list[Tensor]]]) -> dict[str, list[Tensor]]:
    """Return the lists of several items under each key, one after the other."""
    return {key: [label for of_item in labels for label in of_item[key]] for key in labels[0]}
