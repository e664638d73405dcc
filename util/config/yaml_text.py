"""Values as YAML text, written by the library, so that no text becomes a key."""

from __future__ import annotations

from typing import Any

import yaml


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True).strip()[1:-1]


def override(key: str, value: Any) -> str:
    """Return the ``section.key=value`` that sets a key to a value as it is, whatever its characters mean in YAML."""
    return f"{key}={flow(value)}"


def comment(text: str) -> str:
    """Return a text that stays in the comment that it is written in: on one line, every character printable."""
    return "".join(c if c.isprintable() else " " for c in text)
