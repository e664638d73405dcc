"""Check plain data (of YAML or JSON) against type hints at run time, for configs and for result files."""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from util.errors import nearest

NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "text", dict: "a section"}
MAX_SHOWN = 80  # characters of a value in a message
MAX_NUMBER = 2**63 - 1  # the largest whole number that a tensor holds
hints_of = functools.cache(typing.get_type_hints)  # the types of a class's fields by name
UNIONS = (typing.Union, types.UnionType)


class Misfit(Exception):
    """A value is not of its type or impossible; the message names the key, such as ``test.seeds[1]``, and the fix."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key


def convert(kind: Any, value: Any, key: str, as_yaml: bool = False) -> Any:
    """Return a value as its type: a whole number as a float where the type is float, all else as it is.

    Args:
        kind: a plain type, ``Any``, ``Literal``, a union, ``list[...]``, ``dict[str, ...]``, a ``TypedDict``, or a
            dataclass, whose fields' ``metadata`` may hold the bounds that ``util/config/settings.py`` describes.
        key: name of the value in messages.
        as_yaml: also take text that reads as a number for a float (YAML 1.1 reads 1e-4, without a dot, as text) and a
            number for text.

    Misfit: the value, or the first part of it that is wrong, has another type or is out of its bounds.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    shown = repr(value) if len(repr(value)) <= MAX_SHOWN else f"{repr(value)[:MAX_SHOWN]}..."
    if kind is Any or (dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind))):
        return value
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        if isinstance(value, dict):
            return _section(kind, value, key, as_yaml)
        kind = dict
    if origin in UNIONS:
        *others, last = sorted(arguments, key=lambda a: a is not type(None))
        for member in others:
            with contextlib.suppress(Misfit):
                return convert(member, value, key, as_yaml)
        return convert(last, value, key, as_yaml)
    if origin is Literal:
        if value in arguments:
            return value
        hint = nearest(str(value), [str(a) for a in arguments])
        raise Misfit(key, f"{key} = {shown} is not one of {', '.join(map(str, arguments))}{hint}")
    if origin is list and isinstance(value, list):
        return [convert(arguments[0], v, f"{key}[{i}]", as_yaml) for i, v in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {k: convert(arguments[1], v, f"{key}.{k}", as_yaml) for k, v in value.items()}
    if kind is float and type(value) in ((int, float, str) if as_yaml else (int, float)):
        with contextlib.suppress(ValueError, OverflowError):  # text that is no number; hundreds of digits
            return float(value)
    elif kind is str and "\0" in str(value):
        raise Misfit(key, f"{key} = {shown} holds a NUL, which no name may have; take it out")
    elif type(value) is kind:
        return value
    elif kind is str and as_yaml and type(value) in (int, float):
        return str(value)
    raise Misfit(key, f"{key} = {shown} must be {kind_name(kind)}")


def _section(kind: Any, values: dict[str, Any], key: str, as_yaml: bool) -> Any:
    """Return a dict as a ``TypedDict`` or a dataclass."""
    fields = {f.name: f for f in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else {}
    absent = dataclasses.MISSING
    required = [n for n, f in fields.items() if f.default is absent and f.default_factory is absent]
    hints, prefix, out = hints_of(kind), f"{key}." if key else "", {}
    for name, value in values.items():
        if name not in (fields or hints):
            raise Misfit(f"{prefix}{name}", f"unknown key '{prefix}{name}'{nearest(str(name), fields or hints)}")
        out[name] = convert(hints[name], value, f"{prefix}{name}", as_yaml)
        if name in fields:
            _check(out[name], f"{prefix}{name}", fields[name].metadata)
    for name in required if fields else sorted(hints):
        if name not in values:
            raise Misfit(f"{prefix}{name}", f"key '{prefix}{name}' is missing")
    return kind(**out) if fields else out


def _check(value: Any, key: str, metadata: Mapping[str, Any]) -> None:
    """Refuse a value, or an item of a list, that a field's ``metadata`` does not allow."""
    problem, (shortest, longest) = metadata.get("problem"), metadata.get("length", (0, None))
    if problem is not None and (words := problem(value)) is not None:
        raise Misfit(key, f"{key} = {value!r}: {words}")
    items = value if isinstance(value, list) else [value]
    if isinstance(value, list) and not shortest <= len(value) <= (longest or len(value)):
        count = f"{shortest} to {longest}" if longest else f"at least {shortest}"
        raise Misfit(key, f"{key} = {value} must hold {shortest if shortest == longest else count} values")
    low, high = metadata.get("low"), metadata.get("high")
    least, most = -MAX_NUMBER if low is None else low, MAX_NUMBER if high is None else high
    for item in items:
        if isinstance(item, (int, float)) and not least <= item <= most:  # NaN is in no range
            allowed = f"at least {least}" if high is None else f"between {least} and {high}"
            raise Misfit(key, f"{key} = {str(item)[:MAX_SHOWN]} is out of range; allowed: {allowed}")


def kind_name(kind: Any) -> str:
    """Return the name of a type in words, such as ``a list, each a whole number``."""
    if typing.get_origin(kind) is list:
        return f"a list, each {kind_name(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) in UNIONS:
        return " or ".join("null" if a is type(None) else kind_name(a) for a in typing.get_args(kind))
    return NAMES.get(typing.get_origin(kind) or kind, str(kind))
