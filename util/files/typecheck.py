"""Check plain data (of YAML or JSON) against type hints at run time, for configs and for result files."""

import contextlib
import dataclasses
import functools
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from util.files.errors import closest, nearest

NAMES = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "text",
    dict: "a section",
    types.NoneType: "null",
}
UNKNOWN = "unknown key"  # begins the message about one
MAX_SHOWN = 80  # characters of a value in a message
MAX_NUMBER = 2**63 - 1  # the largest whole number that a tensor holds
hints_of = functools.cache(typing.get_type_hints)  # the types of a class's fields by name
UNIONS = (typing.Union, types.UnionType)


class Misfit(Exception):
    """A value is not of its type or impossible; the message names the key, such as ``test.seeds[1]``, and the fix."""

    def __init__(self, key: str, message: str):
        super().__init__(message)
        self.key = key
        self.others: list[Misfit] = []  # those after it in the same section, and in sections of it


class UnknownKey(Misfit):
    """A section has no such key."""


class NoSection(Misfit):
    """A value stands in place of a section."""


def raise_all(misfits: Sequence[Misfit]) -> None:
    """Raise the first of some misfits with the others, if there are any."""
    if misfits:
        misfits[0].others = [*misfits[1:]]
        raise misfits[0]


def convert(kind: Any, value: Any, key: str, as_yaml: bool = False) -> Any:
    """Return a value as its type: a whole number as a float where the type is float, all else as it is.

    Args:
        kind: a plain type, ``Any``, ``Literal``, a union, ``list[...]``, ``dict[str, ...]``, a ``TypedDict``, or a
            dataclass, whose fields' ``metadata`` may hold the bounds that ``util/config/settings.py`` describes, or
            ``type_of``, a function that returns the type of a value.
        key: name of the value in messages.
        as_yaml: also take text that reads as a number for one (1e-4, 010) and a number for text, in which ``~/`` is
            the home.

    Misfit: the value, or a part of it, has another type or is out of its bounds: the first one, with the ``others``.
    """
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return value
    if origin is dict or dataclasses.is_dataclass(kind) or typing.is_typeddict(kind):
        return _section(kind, value, key, as_yaml)
    if origin in UNIONS:
        return _member(members, value, key, as_yaml)
    if origin is Literal:
        return _choice(members, value, key)
    if origin is list and isinstance(value, list):
        return [convert(members[0], item, f"{key}[{i}]", as_yaml) for i, item in enumerate(value)]
    return _plain(kind, value, key, as_yaml)


def _section(kind: Any, values: Any, key: str, as_yaml: bool) -> Any:
    """Return a dict as its type; the Misfits of all keys are raised as the first one with the others."""
    if not isinstance(values, dict):
        return _plain(dict, values, key, as_yaml)  # which refuses it
    prefix = f"{key}." if key else ""
    converted = dict[str, Any]()
    misfits = list[Misfit]()
    for name, value in values.items():
        try:
            converted[name] = _entry(kind, name, value, f"{prefix}{name}", as_yaml)
        except Misfit as misfit:
            misfits += [misfit, *misfit.others]
    misfits += [
        Misfit(f"{prefix}{name}", f"key '{prefix}{name}' is missing") for name in required(kind) if name not in values
    ]
    raise_all(misfits)
    return kind(**converted) if hasattr(kind, "__dataclass_fields__") else converted


def _entry(kind: Any, name: str, value: Any, place: str, as_yaml: bool) -> Any:
    """Return the value of a section's key, within its bounds; ``place`` is the whole key."""
    if typing.get_origin(kind) is dict:
        return convert(typing.get_args(kind)[1], value, place, as_yaml)
    hints = hints_of(kind)
    if name not in hints:
        raise UnknownKey(place, f"{UNKNOWN} '{place}'{nearest(str(name), hints)}")
    if not dataclasses.is_dataclass(kind):
        return convert(hints[name], value, place, as_yaml)
    metadata = kind.__dataclass_fields__[name].metadata
    own_kind = metadata["type_of"](value) if "type_of" in metadata else hints[name]
    converted = convert(own_kind, value, place, as_yaml)
    if problem := next(_problems(converted, metadata), None):
        raise Misfit(place, f"{place} = {problem}")
    return converted


def required(kind: Any) -> list[str]:
    """Return the keys that a section must have."""
    if not dataclasses.is_dataclass(kind):
        return sorted(getattr(kind, "__required_keys__", ()))  # of a ``TypedDict``
    return [
        part.name for part in dataclasses.fields(kind) if part.default is part.default_factory is dataclasses.MISSING
    ]


def _member(kinds: tuple[Any, ...], value: Any, key: str, as_yaml: bool) -> Any:
    """Return a value as the first type of a union that it fits, null before the others; the last one may refuse it."""
    *others, last = sorted(kinds, key=lambda kind: kind is not type(None))
    for kind in others:
        with contextlib.suppress(Misfit):
            return convert(kind, value, key, as_yaml)
    return convert(last, value, key, as_yaml)


def _choice(choices: Sequence[Any], value: Any, key: str) -> Any:
    """Return a value that a ``Literal`` lists."""
    if value in choices:
        return value
    names = [str(choice) for choice in choices]
    raise Misfit(key, f"{key} = {_shown(value)} is not one of {', '.join(names)}{closest(str(value), names)}")


def _plain(kind: Any, value: Any, key: str, as_yaml: bool) -> Any:
    """Return a value of a plain type."""
    if type(value) is kind:
        return f"{Path.home()}{value[1:]}" if as_yaml and kind is str and value.startswith("~/") else value
    taken = {float: (int, str), int: (str,), str: (int, float)} if as_yaml else {float: (int,)}
    if type(value) in taken.get(kind, ()):
        with contextlib.suppress(ValueError, OverflowError):  # text that is no number; hundreds of digits
            return kind(value)
    misfit = NoSection if kind is dict else Misfit
    raise misfit(key, f"{key} = {_shown(value)} must be {_name_of(kind)}")


def _shown(value: Any) -> str:
    """Return a value for a message, its beginning if it is long."""
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _problems(value: Any, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Yield a value, or an item of a list, with what a field's ``metadata`` does not allow of it."""
    shortest, longest = metadata.get("length", (0, None))
    if isinstance(value, list) and not shortest <= len(value) <= (longest or len(value)):
        allowed = f"at least {shortest}" if longest is None else f"{shortest} to {longest}"
        yield f"{_shown(value)} has {len(value)} values; allowed: {allowed}"
    problem = metadata.get("problem")
    if problem is not None and (reason := problem(value)):
        yield f"{value!r}: {reason}"
    for item in value if isinstance(value, list) else [value]:
        yield from _out_of_range(item, metadata.get("low"), metadata.get("high"))


def _out_of_range(value: Any, low: float | None, high: float | None) -> Iterator[str]:
    """Yield a number outside low..high; where one is None, outside the numbers that a tensor holds."""
    least = -MAX_NUMBER if low is None else low
    most = MAX_NUMBER if high is None else high
    if isinstance(value, (int, float)) and not least <= value <= most:  # NaN is in no range
        allowed = f"at least {least}" if high is None else f"between {least} and {high}"
        yield f"{str(value)[:MAX_SHOWN]} is out of range; allowed: {allowed}"


def _name_of(kind: Any) -> str:
    """Return the name of a type in words, such as ``a list, each a whole number``."""
    origin, members = typing.get_origin(kind), typing.get_args(kind)
    if origin is list:
        return f"a list, each {_name_of(members[0])}"
    if origin in UNIONS:
        return " or ".join(map(_name_of, members))
    return NAMES.get(origin or kind, str(kind))


def repeated(values: list[int] | None) -> str | None:
    """Say that a list holds a value twice."""
    given = values or []
    twice = [value for value in given if given.count(value) > 1]
    return f"holds {twice[0]} twice, which repeats its episodes; keep one" if twice else None


def leads_away(name: str | None) -> str | None:
    """Say that a name would lead out of the folder that it names a folder or file in."""
    if name is None or {"", ".", ".."}.isdisjoint(name.split("/")):
        return None
    return "must be a name, not a path"
