"""A test's batch: episodes of several ways with the label to score on, and the join of single items to a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Any, TypeVar

from torch import Tensor
from torch.utils.data import default_collate

from model.episode import Batch, Episode

Sample = TypeVar("Sample", bound=Batch)


@dataclass
class Trial(Batch):
    """B episodes of N ways, and the labels that their predictions are scored against."""

    ways: list[Episode]  # N one-class episodes of the same B queries; each query's classes ascend
    rows: list[tuple[int, ...]]  # of the index for each query: the query itself, then the supports of way after way
    label: list[Tensor]  # B labels (H', W') uint8 in {0, .., N, 255}, of any sizes
    base_label: list[Tensor]  # the same in base-class ids; empty for methods without base labels
    class_map: list[Tensor]  # the same in values of the masks: ids of all classes of the data set
    shown: list[tuple[int, ...]]  # height and width of each query within the network's input; the rest is padding

    @property
    def episode(self) -> Episode:
        """The episodes of the first way."""
        return self.ways[0]


def collate(items: Sequence[Sample]) -> Sample:
    """Return the batch of single items: tensors are stacked, empty fields stay None, lists of a trial are joined."""
    first = items[0]
    values = {field.name: [getattr(item, field.name) for item in items] for field in fields(first)}
    join = _joined if isinstance(first, Trial) else _stacked
    return type(first)(**{name: join(parts) for name, parts in values.items()})


def _stacked(parts: Sequence[Any]) -> Any:
    """Return a field of a batch of episodes or images."""
    return None if parts[0] is None else default_collate([*parts])


def _joined(parts: Sequence[Any]) -> Any:
    """Return a field of a batch of trials: ways, or entries of each query."""
    first = parts[0]
    if first and isinstance(first[0], Batch):
        return [collate(episodes) for episodes in zip(*parts, strict=True)]
    return [*chain.from_iterable(parts)]
