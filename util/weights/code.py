"""Digests of the code that a run takes: of its method, and of what others registered and its config names."""

from collections.abc import Iterable, Iterator
from dataclasses import fields, is_dataclass
from itertools import chain
from typing import Any

from model.code import PACKAGE, code_of


def code_of_run(method: type, *sections: Any) -> dict[str, str]:
    """Return the digests of a method's code, and of the code of others that sections of a config name, by module."""
    return code_of(method) | code_of_others(chain.from_iterable(map(_pieces_of, sections)))


def code_of_others(pieces: Iterable[Any]) -> dict[str, str]:
    """Return the digests of the code of those registered classes and functions that are of others, by module."""
    found: dict[str, str] = {}
    for piece in pieces:
        folder, _, _ = PACKAGE.sub("", piece.__module__).partition(".")
        if folder not in ("model", "util"):
            found |= code_of(piece)
    return found


def _pieces_of(section: Any) -> Iterator[Any]:
    """Yield the registered classes and functions that a section names, and those of sections in it."""
    for part in fields(section):
        value = getattr(section, part.name)
        several = value.values() if isinstance(value, dict) else value
        values = several if isinstance(value, (dict, list)) else [value]
        if kind := part.metadata.get("kind"):
            yield from (kind.pieces[name] for name in values if name in kind)
        for below in filter(is_dataclass, values):
            yield from _pieces_of(below)
