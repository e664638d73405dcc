"""Tables of what configs name, such as methods and encoders: one entry for a name."""

import inspect
from collections.abc import Callable
from typing import Any


def add_once(
    table: dict[str, Any], name: str, entry: Any, key: str, piece: Callable[[Any], Any] = lambda entry: entry
) -> None:
    """Enter something in a table under the name that a config's ``key`` uses; ``piece`` is its class or function.

    The same piece of the same file, imported once more, takes its own place. ValueError: the name is another's.
    """
    former = table.get(name)
    if former is not None and _place(piece(former)) != _place(piece(entry)):
        both = f"{_in_words(piece(former))} and {_in_words(piece(entry))}"
        raise ValueError(f"{key} '{name}' is registered twice, by {both}; rename one")
    table[name] = entry


def _place(entry: Any) -> tuple[str, str]:
    """Return the file and the name in it of a class or a function."""
    return inspect.getfile(entry), entry.__qualname__


def _in_words(entry: Any) -> str:
    return f"{entry.__module__} ({inspect.getfile(entry)})"
