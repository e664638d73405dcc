"""The kept values of supports: a ``Shot``, several of them joined and apart, and results of several together.

Tests, photos, calibration and exports keep shots, and move the same object.

Shape letters: B episodes, K shots, n supports.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar
from weakref import ref

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

from model.episode import Batch
from model.tensors.object_windows import computed_together


@dataclass
class Finding:
    """A result of the shots of several classes together."""

    shots: "list[ref[Shot]]"  # of all classes in a row
    counts: list[int]  # of the shots of each class
    found: Any

    def is_of(self, shots: "Sequence[Shot]", counts: Sequence[int]) -> bool:
        """Return whether it was found in these shots."""
        return self.counts == counts and all(own() is shot for own, shot in zip(self.shots, shots, strict=True))


@dataclass
class Shot(Batch):
    """The kept values of n supports: a method adds its tensors, whose first dimension is n.

    ``Method.predict`` gets K shots, each of one support for every query: there n = B.
    Where the second dimension is the positions of an object, supports that have fewer are filled up with zeros.
    """

    presence: Tensor | None = field(default=None, kw_only=True)  # of the presence score, (n, C + 3)

    def __post_init__(self) -> None:
        self.original: Shot | None = None  # the kept one that this one repeats for every query
        self.finding: Finding | None = None  # of several shots, of which this one is the first

    def __len__(self) -> int:
        return len(self.tensors()[0])

    @property
    def nbytes(self) -> int:
        """The size of its tensors in bytes."""
        return sum(x.nbytes for x in self.tensors())

    def rows(self, which: slice) -> Self:
        """Return what is kept of some of the supports."""
        return self.each(lambda x: x[which])

    @classmethod
    def join(cls, shots: "Sequence[Shot]") -> Any:
        """Return what is kept of the supports of several shots, of one after the other."""
        if len(shots) == 1:
            return shots[0]
        parts = zip(*(shot.tensors() for shot in shots), strict=True)
        joint = iter([_joined(tensors) for tensors in parts])
        return shots[0].each(lambda _: next(joint))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors one after the other, the smaller ones with zeros at the end of their further dimensions."""
    shapes = [x.shape[1:] for x in tensors]
    largest = [max(sides) for sides in zip(*shapes, strict=True)]
    return torch.cat([_extended(x, largest) for x in tensors])


def _extended(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Return a tensor with zeros at the end of all dimensions but the first, up to sides of them."""
    if list(x.shape[1:]) == list(sides):
        return x
    added: list[int] = []
    for side, own in zip(reversed(sides), reversed(x.shape[1:]), strict=True):  # the last dimension comes first
        added += [0, side - own]
    return F.pad(x, added)


AnyShot = TypeVar("AnyShot", bound=Shot)
Found = TypeVar("Found")


def joined_on_gpu(shots: Sequence[AnyShot]) -> Sequence[AnyShot]:
    """Return K shots of B supports each: on a CPU as they are, on a GPU as one of K B supports, shot after shot."""
    return [type(shots[0]).join(shots)] if computed_together(shots[0].tensors()[0]) else shots


def once_for(shots: Sequence[Sequence[AnyShot]], find: Callable[[Sequence[Sequence[AnyShot]]], Found]) -> Found:
    """Return what ``find`` finds in the K shots of n classes together; a method asks for one such finding.

    Where all queries share kept shots, ``find`` gets shots of one support each, and the next call with the same shots
    gets the same.
    """
    originals: list[list[Any]] = [[shot.original for shot in of_class] for of_class in shots]
    every_one = [*chain(*originals)]
    if any(one is None for one in every_one) or torch.compiler.is_dynamo_compiling():
        return find(shots)
    first = every_one[0]
    counts = [len(of_class) for of_class in originals]
    if first.finding is not None and first.finding.is_of(every_one, counts):
        return first.finding.found
    found = find(originals)
    if not torch.compiler.is_compiling():
        first.finding = Finding([ref(one) for one in every_one], counts, found)
    return found


def given_shots(kept: Sequence[Shot], shots: int, batch: int) -> list[Shot]:
    """Return the K shots of B episodes from those of single supports: B * K, or K that all episodes share."""
    if len(kept) == shots:
        repeated = [shot.each(lambda x: x.expand(batch, *x.shape[1:])) for shot in kept]
        for shot, original in zip(repeated, kept, strict=True):
            shot.original = original
        return repeated
    return [Shot.join(kept[k::shots]) for k in range(shots)]


def split(shot: Shot, count: int) -> list[Shot]:
    """Return the shots of ``count`` supports each, one after the other."""
    return [shot.rows(slice(first, first + count)) for first in range(0, len(shot), count)]
