"""Registries of what a config names, such as methods, encoders and optimisers."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Piece = TypeVar("Piece")
REGISTRIES: dict[str, "Registry"] = {}  # by title


class Registry(dict[str, Any]):
    """Classes and functions by the name that a config's key gives.

    Args:
        title: what an entry is, such as "encoder", in messages; the ``kind`` of ``util/config/registry.py``.
        key: the config's key.
        make_entry: builds the entry from (name, object, *facts); default: the object itself.
        before: is called with a name before it is registered.
    """

    def __init__(
        self,
        title: str,
        key: str,
        make_entry: Callable[..., Any] | None = None,
        before: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self.title = title
        self.key = key
        self.pieces = dict[str, Any]()  # the registered objects by name; an entry may be made of one
        self._make_entry = make_entry
        self._before = before
        REGISTRIES[title] = self

    def register(self, name: str, *facts: Any, **others: Any) -> Callable[[Piece], Piece]:
        """Return a decorator of a class or function that makes it available under a name.

        The same object of the same file, imported once more, replaces itself. ValueError: the name is another's.
        """

        def add(piece: Piece) -> Piece:
            if self._before is not None:
                self._before(name)
            former = self.pieces[name] if name in self else piece
            if _place(former) != _place(piece):
                both = f"{_words(former)} and {_words(piece)}"
                raise ValueError(f"{self.key} '{name}' is registered twice, by {both}; rename one")
            self[name] = piece if self._make_entry is None else self._make_entry(name, piece, *facts, **others)
            self.pieces[name] = piece
            return piece

        return add


def _place(piece: Any) -> tuple[str, str]:
    """Return the module and the name in it of a class or a function."""
    return getattr(inspect.getmodule(piece), "__file__", None) or "", piece.__qualname__


def _words(piece: Any) -> str:
    return f"{piece.__module__} ({inspect.getfile(piece)})"
