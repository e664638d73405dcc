"""Results of the shots of several classes together, which serve all queries with the same shots."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar
from weakref import ref

from model.episode import Shot

AnyShot = TypeVar("AnyShot", bound=Shot)
Found = TypeVar("Found")


@dataclass
class Finding:
    """A result of the shots of several classes together."""

    shots: list[ref[Shot]]  # of all classes in a row
    counts: list[int]  # of the shots of each class
    found: Any

    def is_of(self, shots: Sequence[Shot], counts: Sequence[int]) -> bool:
        """Return whether it was found in these shots."""
        if self.counts != counts:
            return False
        return all(own() is shot for own, shot in zip(self.shots, shots, strict=True))


def once_for(shots: Sequence[Sequence[AnyShot]], find: Callable[[Sequence[Sequence[AnyShot]]], Found]) -> Found:
    """Return the result of ``find`` on the K shots of n classes together; a method may have one such result.

    If all queries share stored shots, ``find`` gets shots of one support each, and the next call with these shots
    returns the same result.
    """
    originals: list[list[Any]] = []
    for of_class in shots:
        originals.append([shot.original for shot in of_class])
    every_one = [*chain(*originals)]
    if None in every_one:
        return find(shots)
    first = every_one[0]
    counts = [len(of_class) for of_class in originals]
    if first.finding is not None and first.finding.is_of(every_one, counts):
        return first.finding.found
    found = find(originals)
    first.finding = Finding([ref(one) for one in every_one], counts, found)
    return found
