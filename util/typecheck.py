"""Check plain data (of YAML or JSON) against type hints at run time, for configs and for result files."""

from __future__ import annotations

import functools
import types
import typing
from typing import Any, Literal

from util.errors import nearest

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a section"}
MAX_SHOWN = 80  # characters of a value in a message
UNIONS = (typing.Union, types.UnionType)


class Misfit(Exception):
    """A value is not of its type; the message names the key, the value and the expected type.

    Attributes:
        key: of the innermost value that is wrong, such as ``test.seeds[1]``.
    """

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


@functools.cache
def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of a class's fields by name."""
    return typing.get_type_hints(kind)


def convert(kind: Any, value: Any, key: str, as_yaml: bool = False) -> Any:
    """Return a value as its type: a whole number as a float where the type is float, all else as it is.

    Args:
        kind: a plain type, ``Any``, ``Literal``, a union, ``list[...]``, ``dict[str, ...]`` or a ``TypedDict``.
        key: name of the value in messages.
        as_yaml: also take text that reads as a number for a float (YAML 1.1 reads 1e-4, without a dot, as text) and a
            number for text.

    Raises:
        Misfit: the value, or the first part of it that is wrong, has another type.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if typing.is_typeddict(kind):
        return _convert_typed_dict(kind, value, key, as_yaml)
    if origin in UNIONS:
        return _convert_union(kind, value, key, as_yaml)
    if origin is Literal:
        if value in arguments:
            return value
        hint = nearest(str(value), [str(a) for a in arguments])
        raise Misfit(key, f"{key} = {_short(value)} is not one of {', '.join(map(str, arguments))}{hint}")
    if origin is list and isinstance(value, list):
        return [convert(arguments[0], v, f"{key}[{i}]", as_yaml) for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {k: convert(arguments[1], v, f"{key}.{k}", as_yaml) for k, v in value.items()}
    if kind is float and type(value) in ((int, float, str) if as_yaml else (int, float)):
        try:
            return float(value)
        except (ValueError, OverflowError):  # text that is no number; a whole number of hundreds of digits
            pass
    elif type(value) is kind:
        return value
    elif kind is str and as_yaml and type(value) in (int, float):
        return str(value)
    raise Misfit(key, f"{key} = {_short(value)} must be {kind_name(kind)}")


def _convert_union(kind: Any, value: Any, key: str, as_yaml: bool) -> Any:
    """Return a value as the first member of a union that it fits."""
    members = [a for a in typing.get_args(kind) if a is not type(None)]
    if value is None and len(members) < len(typing.get_args(kind)):
        return None
    for member in members[:-1]:
        try:
            return convert(member, value, key, as_yaml)
        except Misfit:
            continue
    return convert(members[-1], value, key, as_yaml)


def _convert_typed_dict(kind: Any, value: Any, key: str, as_yaml: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Misfit(key, f"{key} = {_short(value)} must be {kind_name(dict)}")
    hints, prefix = hints_of(kind), f"{key}." if key else ""
    for name in sorted(kind.__required_keys__):
        if name not in value:
            raise Misfit(f"{prefix}{name}", f"key '{prefix}{name}' is missing")
    for name in value:
        if name not in hints:
            raise Misfit(f"{prefix}{name}", f"key '{prefix}{name}' is unknown")
    return {name: convert(hints[name], v, f"{prefix}{name}", as_yaml) for name, v in value.items()}


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def kind_name(kind: Any) -> str:
    """Return the name of a type in words, such as ``a list, each a whole number``."""
    if typing.get_origin(kind) is list:
        return f"a list, each {kind_name(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) in UNIONS:
        return " or ".join("null" if a is type(None) else kind_name(a) for a in typing.get_args(kind))
    return NAMES.get(typing.get_origin(kind) or kind, str(kind))
