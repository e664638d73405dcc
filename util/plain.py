"""The check of plain data from files, such as a checkpoint's config: bounded size and depth, no circles."""

from __future__ import annotations

import math
from typing import Any

MAX_NODES, MAX_DEPTH = 10_000, 40  # a config has a few hundred values, four levels deep
MAX_NUMBER = 2**63 - 1  # the largest whole number that a tensor holds
MAX_TEXT = 100_000  # characters of one text
MAX_KEY = 80  # characters of a key in a message


def problem_of(value: Any, nodes: int = MAX_NODES, keys: tuple[type, ...] = (str,)) -> str | None:
    """Return in words why a value is not plain data, None if it is: sections with text keys, lists, texts and numbers.

    A value that is used in several places counts as often, so that a circle has too many values.

    Args:
        nodes: the most values.
        keys: the types of keys.
    """
    waiting: list[tuple[Any, str, int]] = [(value, "", 0)]
    for count in range(nodes + 1):
        if not waiting:
            return None
        if count == nodes:
            break
        part, key, depth = waiting.pop()
        if depth > MAX_DEPTH:
            return f"{_named(key)} is nested more than {MAX_DEPTH} levels deep"
        if isinstance(part, dict):
            odd = next((k for k in part if type(k) not in keys), None)
            if odd is not None:
                return f"{_named(key)} has the key {_short(repr(odd))}, which is no text"
            waiting += [(inner, f"{key}.{name}" if key else name, depth + 1) for name, inner in part.items()]
        elif isinstance(part, (list, tuple)):
            waiting += [(inner, key, depth + 1) for inner in part]
        elif reason := _scalar_problem(part):
            return f"{_named(key)} {reason}"
    return f"it has more than {nodes} values, or contains itself"


def _scalar_problem(value: Any) -> str | None:
    if value is None or type(value) is bool:
        return None
    if type(value) is str:
        return f"has more than {MAX_TEXT} characters" if len(value) > MAX_TEXT else None
    if type(value) is int:
        return f"is a number beyond {MAX_NUMBER}" if abs(value) > MAX_NUMBER else None
    if type(value) is float:
        return "is not a number" if math.isnan(value) else None
    return f"holds a {type(value).__name__}, which is neither text nor a number"


def _named(key: str) -> str:
    return f"'{_short(key)}'" if key else "it"


def _short(text: str) -> str:
    return text if len(text) <= MAX_KEY else f"{text[:MAX_KEY]}..."
