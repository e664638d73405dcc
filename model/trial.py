"""A test's batch: episodes of several ways with the labels to score on, and the join of single items to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import default_collate

from model.episode import Batch, Episode

Sample = TypeVar("Sample", bound=Batch)


@dataclass
class Trial(Batch):
    """B episodes of N ways, and the labels that their predictions are scored against, for each value of scored_on."""

    ways: list[Episode]  # N one-class episodes of the same B queries; each query's classes ascend
    rows: list[tuple[int, ...]]  # of the index for each query: the query itself, then the supports of way after way
    label: dict[str, list[Tensor]]  # scored_on -> B labels (H', W') uint8 in {0, .., N, 255}, of any sizes
    base_label: dict[str, list[Tensor]]  # the same in base-class ids; empty for models without base labels
    shown: list[tuple[int, int]]  # height and width of each query within the network's input; the rest is padding

    @property
    def episode(self) -> Episode:
        """The episodes of the first way."""
        return self.ways[0]


def collate(items: Sequence[Sample]) -> Sample:
    """Return the batch of single items: tensors are stacked, empty fields stay None, scored labels become lists."""
    batch = {}
    for field in fields(items[0]):
        parts = [getattr(item, field.name) for item in items]
        batch[field.name] = _joined(parts)
    return type(items[0])(**batch)


def _joined(parts: Sequence[Any]) -> Any:
    """Return a field of a batch from those of its items."""
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, dict):
        return _joined_labels(parts)
    if isinstance(first, list) and isinstance(first[0], Batch):  # ways
        return [collate(episodes) for episodes in zip(*parts, strict=True)]
    if isinstance(first, list) and isinstance(first[0], tuple):  # rows, sizes
        return [entry for part in parts for entry in part]
    return default_collate([*parts])


def _joined_labels(parts: Sequence[dict[str, list[Tensor]]]) -> dict[str, list[Tensor]]:
    """Return the scored labels of all items, for each value of scored_on."""
    joined: dict[str, list[Tensor]] = {scored_on: [] for scored_on in parts[0]}
    for part in parts:
        for scored_on in joined:
            joined[scored_on] += part[scored_on]
    return joined
