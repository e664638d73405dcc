"""Facts that results share, and those in which they differ."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from util.files.parallel import Item, grouped


def by_value(things: Iterable[Item], fact: Callable[[Item], Any]) -> dict[Any, Item]:
    """Return the first thing of each value of a fact; None and '' are not known, and no values."""
    groups = grouped(things, fact)
    return {value: group[0] for value, group in groups.items() if value not in (None, "")}


def differences(things: Sequence[Item], facts: Mapping[str, Callable[[Item], Any]]) -> dict[str, str]:
    """Return in which of some facts things differ, by names in words, with the values."""
    found = {name: by_value(things, fact) for name, fact in facts.items()}
    return {name: "; ".join(map(str, values)) for name, values in found.items() if len(values) > 1}


def text_of(values: Mapping[str, Any] | None) -> str:
    """Return values as a text that equal ones share; '' for none."""
    return json.dumps(values, sort_keys=True, default=str) if values else ""


def without(settings: dict[str, Any], *keys: str) -> dict[str, Any]:
    """Return settings but for some."""
    return {key: value for key, value in settings.items() if key not in keys}
