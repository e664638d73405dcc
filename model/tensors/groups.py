"""The groups that are computed in one call: a batch at once on a GPU, on a CPU one by one."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def computed_together(x: Tensor) -> bool:
    """Return whether images, shots and episodes beside ``x`` are computed in one call, as one tensor.

    A GPU is then asked for one kernel where it would be asked for many. A CPU gains nothing: it takes them one by one,
    with less memory and without padding.
    """
    return not x.is_cpu


def in_groups(items: Sequence[T], join: Callable[[Sequence[T]], T], beside: Tensor) -> Sequence[T]:
    """Return items as they are computed beside a tensor: all as one of ``join``, or each by itself."""
    return [join(items)] if computed_together(beside) else items


def groups_of(x: Tensor) -> list[slice]:
    """Return the rows of a batch (B, ...) that are computed at a time."""
    size = len(x) if computed_together(x) else 1
    return [slice(first, first + size) for first in range(0, len(x), size)]
