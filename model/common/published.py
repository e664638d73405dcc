"""Tensor-name layouts of authors' checkpoints: recognise one, translate it. Each method keeps its own table."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor

from model.encoders.layouts import title_by_names

DDP_PREFIX = "module."


@dataclass(frozen=True)
class Layout:
    """The tensor names of one method's checkpoints.

    Attributes:
        title: the method's name.
        signature: names that every checkpoint of the method holds, and no other method's.
        renames: published name -> ours, as regular expressions on whole names; ``\\1`` keeps a part.
        constants: expression on names of tensors that are computed here, or used by nobody, and so left out.
    """

    title: str
    signature: tuple[str, ...]
    renames: tuple[tuple[str, str], ...]
    constants: str | None = None

    def name(self, published: str) -> str:
        """Return our name of a published tensor; names it does not know stay as they are."""
        for pattern, ours in self.renames:
            if re.fullmatch(pattern, published):
                return re.sub(pattern, ours, published)
        return published

    def matches(self, names: Iterable[str]) -> bool:
        """Return whether these are the tensor names of this layout."""
        names = {name.removeprefix(DDP_PREFIX) for name in names}
        return all(name in names for name in self.signature)

    def translate(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Return a state dict under our names, or None when it is not of this layout."""
        if not self.matches(state):
            return None
        state = {name.removeprefix(DDP_PREFIX): tensor for name, tensor in state.items()}
        kept = {n: t for n, t in state.items() if self.constants is None or not re.fullmatch(self.constants, n)}
        return {self.name(name): tensor for name, tensor in kept.items()}


def translate(state: dict[str, Tensor], layouts: Iterable[Layout]) -> dict[str, Tensor]:
    """Return a state dict under our names where it is of one of the layouts, else as it is."""
    layout = next((layout for layout in layouts if layout.matches(state)), None)
    return state if layout is None else layout.translate(state)


def recognise(state: dict[str, Tensor], layouts: Iterable[Layout]) -> str | None:
    """Return the method and encoder of a checkpoint, such as ``DCAMA Swin-B``; None for an unknown layout."""
    layout = next((layout for layout in layouts if layout.matches(state)), None)
    return f"{layout.title} {title_by_names(state)}" if layout else None
