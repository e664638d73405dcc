"""Check plain data (of YAML or JSON) against type hints at run time, for configs and for result files."""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal

from util.files.errors import closest, nearest

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
    if kind is Any:
        return value
    if dataclasses.is_dataclass(kind) and isinstance(value, typing.cast(type, kind)):
        return value
    if dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _section(kind, value, key, as_yaml)
    origin = typing.get_origin(kind)
    if origin in UNIONS:
        return _member(kind, value, key, as_yaml)
    if origin is Literal:
        return _choice(kind, value, key)
    if origin in (list, dict) and isinstance(value, origin):
        return _container(kind, value, key, as_yaml)
    return _plain(kind, value, key, as_yaml)


def _section(kind: Any, values: Any, key: str, as_yaml: bool) -> Any:
    """Return a dict as a ``TypedDict`` or a dataclass."""
    if not isinstance(values, dict):
        raise _other_type(dict, values, key)
    hints = hints_of(kind)
    bounds = _bounds(kind)
    prefix = f"{key}." if key else ""
    converted = {}
    for name, value in values.items():
        place = f"{prefix}{name}"
        if name not in bounds:
            raise Misfit(place, f"unknown key '{place}'{nearest(str(name), bounds)}")
        converted[name] = convert(hints[name], value, place, as_yaml)
        if bounds[name] is not None:
            _check(converted[name], place, bounds[name])
    for name in _required(kind):
        if name not in values:
            raise Misfit(f"{prefix}{name}", f"key '{prefix}{name}' is missing")
    return converted if typing.is_typeddict(kind) else kind(**converted)


def _bounds(kind: Any) -> dict[str, Any]:
    """Return the keys of a section with the metadata of a dataclass's fields, None for those of a ``TypedDict``."""
    if dataclasses.is_dataclass(kind):
        return {field.name: field.metadata for field in dataclasses.fields(kind)}
    return dict.fromkeys(hints_of(kind))


def _required(kind: Any) -> list[str]:
    """Return the keys that a section must have: those of a ``TypedDict``, of a dataclass those without a default."""
    if not dataclasses.is_dataclass(kind):
        return sorted(kind.__required_keys__)
    absent = dataclasses.MISSING
    return [f.name for f in dataclasses.fields(kind) if f.default is absent and f.default_factory is absent]


def _member(kind: Any, value: Any, key: str, as_yaml: bool) -> Any:
    """Return a value as the first type of a union that it fits, null before the others; the last one may refuse it."""
    *others, last = sorted(typing.get_args(kind), key=lambda member: member is not type(None))
    for member in others:
        with contextlib.suppress(Misfit):
            return convert(member, value, key, as_yaml)
    return convert(last, value, key, as_yaml)


def _choice(kind: Any, value: Any, key: str) -> Any:
    """Return a value that a ``Literal`` lists."""
    choices = typing.get_args(kind)
    if value in choices:
        return value
    names = [str(choice) for choice in choices]
    raise Misfit(key, f"{key} = {_shown(value)} is not one of {', '.join(names)}{closest(str(value), names)}")


def _container(kind: Any, value: list | dict, key: str, as_yaml: bool) -> list | dict:
    """Return a list or a dict whose items have their type."""
    item_kind = typing.get_args(kind)[-1]
    if isinstance(value, list):
        return [convert(item_kind, item, f"{key}[{i}]", as_yaml) for i, item in enumerate(value)]
    return {name: convert(item_kind, item, f"{key}.{name}", as_yaml) for name, item in value.items()}


def _plain(kind: Any, value: Any, key: str, as_yaml: bool) -> Any:
    """Return a value of a plain type."""
    if kind is float:
        number = _as_float(value, as_yaml)
        if number is not None:
            return number
    elif type(value) is kind:
        return value
    elif kind is str and as_yaml and type(value) in (int, float):
        return str(value)
    raise _other_type(kind, value, key)


def _as_float(value: Any, as_yaml: bool) -> float | None:
    """Return a number, and by ``as_yaml`` a text that reads as one, as a float; None for all else."""
    sources = (int, float, str) if as_yaml else (int, float)
    if type(value) in sources:
        with contextlib.suppress(ValueError, OverflowError):  # text that is no number; hundreds of digits
            return float(value)
    return None


def _other_type(kind: Any, value: Any, key: str) -> Misfit:
    return Misfit(key, f"{key} = {_shown(value)} must be {kind_name(kind)}")


def _shown(value: Any) -> str:
    """Return a value for a message, its beginning if it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _check(value: Any, key: str, metadata: Mapping[str, Any]) -> None:
    """Refuse a value, or an item of a list, that a field's ``metadata`` does not allow."""
    problem = metadata.get("problem")
    if problem is not None:
        reason = problem(value)
        if reason is not None:
            raise Misfit(key, f"{key} = {value!r}: {reason}")
    items = [value]
    if isinstance(value, list):
        shortest, longest = metadata.get("length", (0, None))
        _check_length(value, key, shortest, longest)
        items = value
    for item in items:
        _check_range(item, key, metadata.get("low"), metadata.get("high"))


def _check_length(values: list, key: str, shortest: int, longest: int | None) -> None:
    """Refuse a list of another length; without ``longest`` no list is too long."""
    is_too_long = longest and len(values) > longest
    if len(values) >= shortest and not is_too_long:
        return
    if shortest == longest:
        count = str(shortest)
    elif longest:
        count = f"{shortest} to {longest}"
    else:
        count = f"at least {shortest}"
    raise Misfit(key, f"{key} = {values} must hold {count} values")


def _check_range(value: Any, key: str, low: float | None, high: float | None) -> None:
    """Refuse a number outside low..high; where one is None, outside the numbers that a tensor holds."""
    if not isinstance(value, (int, float)):
        return
    least = -MAX_NUMBER if low is None else low
    most = MAX_NUMBER if high is None else high
    if least <= value <= most:  # NaN is in no range
        return
    allowed = f"at least {least}" if high is None else f"between {least} and {high}"
    raise Misfit(key, f"{key} = {str(value)[:MAX_SHOWN]} is out of range; allowed: {allowed}")


def kind_name(kind: Any) -> str:
    """Return the name of a type in words, such as ``a list, each a whole number``."""
    origin = typing.get_origin(kind)
    members = typing.get_args(kind)
    if origin is list:
        return f"a list, each {kind_name(members[0])}"
    if origin in UNIONS:
        return " or ".join("null" if member is type(None) else kind_name(member) for member in members)
    return NAMES.get(origin or kind, str(kind))
