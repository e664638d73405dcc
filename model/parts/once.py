"""A result that depends on the stored shots of all classes alone: queries that share these shots compute it once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar
from weakref import ref

from model.episode import Shot

AnyShot = TypeVar("AnyShot", bound=Shot)
Result = TypeVar("Result")


@dataclass
class SharedResult:
    """A result, and the stored shots that it was computed from."""

    shots: list[ref[Shot]]  # of all classes in a row
    counts: list[int]  # number of shots of each class
    result: Any

    def is_of(self, shots: Sequence[Shot], counts: Sequence[int]) -> bool:
        """Return whether it was computed from these shots."""
        if self.counts != counts:
            return False
        return all(own() is shot for own, shot in zip(self.shots, shots, strict=True))


def once_for(shots: Sequence[Sequence[AnyShot]], compute: Callable[[Sequence[Sequence[AnyShot]]], Result]) -> Result:
    """Return ``compute(shots)`` for the K shots of n classes, or the stored result of an earlier call.

    The result is stored only if every shot is a stored one that all queries share (``Shot.original``): ``compute`` then
    gets these originals, of one support each, and later calls with the same originals return the same object. It lies
    in the first original, which holds one result: a method calls this for one kind of result.
    """
    originals: list[list[Any]] = []
    for of_class in shots:
        originals.append([shot.original for shot in of_class])
    every_one = [*chain(*originals)]
    if None in every_one:
        return compute(shots)
    first = every_one[0]
    counts = [len(of_class) for of_class in originals]
    if first.shared_result is not None and first.shared_result.is_of(every_one, counts):
        return first.shared_result.result
    result = compute(originals)
    first.shared_result = SharedResult([ref(one) for one in every_one], counts, result)
    return result
