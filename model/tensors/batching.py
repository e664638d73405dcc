"""How much one call computes: on a GPU all items of a batch together, on a CPU one item at a time."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from torch import Tensor

T = TypeVar("T")


def computed_together(x: Tensor) -> bool:
    """Return whether images, shots and episodes on the device of ``x`` are computed in one call, as one tensor.

    A GPU saves kernel launches. A CPU gains nothing: one by one they take less memory and no padding.
    """
    return not x.is_cpu


def in_groups(items: Sequence[T], join: Callable[[Sequence[T]], T], beside: Tensor) -> Sequence[T]:
    """Return items joined to one where the device of ``beside`` computes them in one call, else each by itself."""
    return [join(items)] if computed_together(beside) else items


def groups_of(x: Tensor) -> list[slice]:
    """Return the rows of a batch (B, ...) that are computed at a time."""
    size = len(x) if computed_together(x) else 1
    return [slice(first, first + size) for first in range(0, len(x), size)]
