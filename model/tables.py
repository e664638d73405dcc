"""Tables of the parts that configs name, such as methods, encoders and optimisers, and one way to enter them."""

import inspect
from collections.abc import Callable
from typing import Any, TypeVar

Piece = TypeVar("Piece")
KINDS: dict[str, "Kind"] = {}  # by their titles


class Kind(dict[str, Any]):
    """Parts that the values of a config's key name: the entries by their names.

    Args:
        title: of one of them, in messages and for ``register`` of ``util/config/registry.py``.
        key: of configs.
        form: makes an entry from its name, its class or function, and what the registration states; None: it is that.
        before: is called with a name before it is registered.
    """

    def __init__(
        self,
        title: str,
        key: str,
        form: Callable[..., Any] | None = None,
        before: Callable[[str], None] | None = None,
    ):
        super().__init__()
        self.title = title
        self.key = key
        self.pieces = dict[str, Any]()  # classes and functions
        self._form = form
        self._before = before
        KINDS[title] = self

    def register(self, name: str, *facts: Any, **others: Any) -> Callable[[Piece], Piece]:
        """Return a decorator of a class or function that makes it available under a name.

        The same piece of the same file, imported once more, takes its own place. ValueError: the name is another's.
        """

        def add(piece: Piece) -> Piece:
            if self._before is not None:
                self._before(name)
            former = self.pieces[name] if name in self else piece
            if _place(former) != _place(piece):
                both = f"{_words(former)} and {_words(piece)}"
                raise ValueError(f"{self.key} '{name}' is registered twice, by {both}; rename one")
            self[name] = piece if self._form is None else self._form(name, piece, *facts, **others)
            self.pieces[name] = piece
            return piece

        return add


def _place(piece: Any) -> tuple[str, str]:
    """Return the module and the name in it of a class or a function."""
    return getattr(inspect.getmodule(piece), "__file__", None) or "", piece.__qualname__


def _words(piece: Any) -> str:
    return f"{piece.__module__} ({inspect.getfile(piece)})"
