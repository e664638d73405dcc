"""Things by what they share."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def grouped(things: Iterable[T], fact: Callable[[T], Any]) -> dict[Any, list[T]]:
    """Return things by the values of a fact, in order."""
    groups: dict[Any, list[T]] = {}
    for thing in things:
        groups.setdefault(fact(thing), []).append(thing)
    return groups
