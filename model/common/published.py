"""Tensor-name layouts of authors' checkpoints: recognition and translation; each method has a table of its own."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

DDP_PREFIX = "module."


@dataclass(frozen=True)
class Layout:
    """The tensor names of one method's checkpoints.

    Attributes:
        title: the method's name.
        signature: names that every checkpoint of this method has, and no other method's.
        renames: published name -> ours, as regular expressions on whole names; ``\\1`` keeps a part.
        constants: regular expression of tensor names to omit: constants, and tensors that nothing uses.
    """

    title: str
    signature: tuple[str, ...]
    renames: tuple[tuple[str, str], ...]
    constants: str | None = None

    def name(self, published: str) -> str:
        """Return our name of a published tensor; unknown names are returned unchanged."""
        for pattern, ours in self.renames:
            if re.fullmatch(pattern, published):
                return re.sub(pattern, ours, published)
        return published

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether these tensor names are of this layout."""
        names = {name.removeprefix(DDP_PREFIX) for name in names}
        return all(name in names for name in self.signature)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Return a state dict under our names; None for another layout."""
        if not self.matches(state):
            return None
        state = {name.removeprefix(DDP_PREFIX): tensor for name, tensor in state.items()}
        kept = {n: t for n, t in state.items() if self.constants is None or not re.fullmatch(self.constants, n)}
        return {self.name(name): tensor for name, tensor in kept.items()}


def translate(state: dict[str, Tensor], layouts: Iterable[Layout]) -> dict[str, Tensor]:
    """Return a state dict under our names if one of the layouts matches, otherwise unchanged."""
    layout = next((layout for layout in layouts if layout.matches(state)), None)
    translated = None if layout is None else layout.translate(state)
    return state if translated is None else translated


def recognise(state: dict[str, Tensor], layouts: Iterable[Layout]) -> str | None:
    """Return the title of the method whose authors' checkpoint this is; None for an unknown layout."""
    return next((layout.title for layout in layouts if layout.matches(state)), None)
