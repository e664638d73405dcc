"""Compare two configs in the settings that decide weights or scores; what each decides stands beside it (``Decides``).

Configs are plain data, merged, as checkpoints and results hold them.
"""

from collections.abc import Iterator
from dataclasses import Field, is_dataclass
from typing import Any, cast, get_args, get_origin

from model.contract import WithEncoderSettings
from model.decides import Decides
from model.registry import methods
from util.config.place import FORMER
from util.config.settings import Sections
from util.files.typecheck import hints_of

Differences = dict[str, tuple[Any, Any]]  # key, as ``section.key`` -> (theirs, ours)


def differences(before: dict[str, Any], now: dict[str, Any], what: Decides, skip: tuple[str, ...] = ()) -> Differences:
    """Return the settings that decide a thing, or more, and differ; one that ``before`` lacks does not.

    ``skip``: beginnings of keys that do not count here.
    """
    return dict(changed(deciding(before, what, skip), deciding(now, what, skip)))


def changed(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    """Yield each value of plain data that differs, as in ``Differences``; one that ``before`` lacks does not count."""
    for name, theirs in before.items():
        ours = now.get(name)
        if isinstance(theirs, dict) and isinstance(ours, dict):
            yield from changed(theirs, ours, f"{prefix}{name}.")
        elif theirs != ours:
            yield f"{prefix}{name}", (theirs, ours)


def in_words(found: Differences, now: str = "now") -> list[str]:
    """Return each of some differences as a text, such as ``meta_stage.epochs = 1, now 100``."""
    return [f"{key} = {theirs}, {now} {ours}" for key, (theirs, ours) in found.items()]


def deciding(
    section: dict[str, Any],
    what: Decides,
    skip: tuple[str, ...] = (),
    *,
    kind: Any = Sections,
    usual: Decides = Decides.WEIGHTS,
    prefix: str = "",
) -> dict[str, Any]:
    """Return the settings of a config, or of a section of a type, that decide a thing, or more.

    ``usual`` is what a setting decides that states nothing; ``skip`` and ``prefix`` are beginnings of keys.
    """
    known = getattr(kind, "__dataclass_fields__", {})  # none of sections by the user's names
    out = {}
    for name, value in section.items():
        key = f"{prefix}{name}"
        decides = known[name].metadata.get("decides", usual) if name in known else usual
        if key.startswith((*skip, *FORMER)):
            continue
        if isinstance(value, dict):
            below = _type_of(kind, name, value)
            part = deciding(value, what, skip, kind=below, usual=decides, prefix=f"{key}.")
            if part or (not value and decides >= what):  # else nothing of it counts
                out[name] = part
        elif decides >= what:
            out[name] = value
    return out


def known_keys(section: dict[str, Any], kind: Any) -> dict[str, Any]:
    """Return a recorded section of a type without what this version lacks."""
    return {name: value for name, value in section.items() if name in kind.__dataclass_fields__}


def settings_in(kind: Any, section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Field]]:
    """Yield each key of a typed section with its field; of sections that a user names only the first one's keys."""
    known = getattr(kind, "__dataclass_fields__", {})
    for name in known or [*section][:1]:
        key = f"{prefix}{name}"
        if name in known:
            yield key, known[name]
        value = section.get(name)
        below = value if isinstance(value, dict) else {}
        yield from settings_in(_type_of(kind, name, below), below, f"{key}.")


def _type_of(kind: Any, name: str, section: dict[str, Any]) -> Any:
    """Return the type of a section below one of a type; None: it is not known."""
    if kind is Sections and name == "model":
        method = methods().get(str(section.get("name")))
        return WithEncoderSettings if method is None else method.Settings  # of a method from outside, perhaps
    if get_origin(kind) is dict:  # of sections by the user's names
        return get_args(kind)[1]
    hint = hints_of(cast(type, kind)).get(name) if is_dataclass(kind) else None
    kinds = [hint, *get_args(hint)]
    return hint if get_origin(hint) is dict else next(filter(is_dataclass, kinds), None)
