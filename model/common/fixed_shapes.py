"""Positions chosen by a mask: only these, or, while a network is traced for export, all with weight 0 for the others.

Boolean indexing gives tensors whose sizes depend on values. An exported graph has fixed sizes, so there the rows of
positions outside the mask are zeros, which leave sums over positions and the greatest of clamped cosines as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from torch import Tensor

_FIXED: ContextVar[bool] = ContextVar("fixed_shapes", default=False)


@contextmanager
def fixed_shapes() -> Iterator[None]:
    """Let no shape depend on the values of a tensor while this lasts."""
    token = _FIXED.set(True)
    try:
        yield
    finally:
        _FIXED.reset(token)


def shapes_are_fixed() -> bool:
    """Return whether no shape may depend on the values of a tensor."""
    return _FIXED.get()


def rows_inside(rows: Tensor, inside_l: Tensor) -> Tensor:
    """Return the rows (L, ...) inside a mask (L,) bool, (n, ...); with fixed shapes all L, 0 outside."""
    if shapes_are_fixed():
        return rows * inside_l.view(-1, *[1] * (rows.ndim - 1)).to(rows.dtype)
    return rows[inside_l]
