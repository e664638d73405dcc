"""A merged config as YAML whose comments say where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from util.config.read import to_dict
from util.config.settings import Config
from util.config.tree import Leaf, Tree
from util.config.yaml_text import comment, flow

COLUMN = 56  # of the comments
OVERRIDE = "--set "  # how the place of an override begins
NAME = "run.name"


def annotated(config: Config, tree: Tree) -> str:
    """Return a config as YAML that reads back as the same config.

    Args:
        tree: as ``read_with_sources`` gives it.
    """
    return "".join(f"{line}\n" for line in _lines(to_dict(config), tree, config.path, ""))


def _lines(section: dict[str, Any], tree: Any, origin: str, prefix: str) -> Iterator[str]:
    indent = "  " * prefix.count(".")
    for key, value in section.items():
        known = tree.get(key) if isinstance(tree, dict) else None
        if isinstance(value, dict) and value:
            yield f"{indent}{flow(key)}:"
            yield from _lines(value, known, origin, f"{prefix}{key}.")
        else:
            line = f"{indent}{flow(key)}: {flow(value)}"
            yield f"{line:<{COLUMN}}  # {comment(_source(known, f'{prefix}{key}', origin))}"


def _source(leaf: Any, key: str, origin: str) -> str:
    """Return where a value comes from, in words."""
    if key == NAME and (not isinstance(leaf, Leaf) or leaf.value is None):
        return "composed: the config's name"
    if not isinstance(leaf, Leaf):
        return "default"
    if leaf.where == origin:
        return f"composed: {key.rpartition('.')[2]}"
    return leaf.where if leaf.where.startswith(OVERRIDE) else os.path.normpath(leaf.where)
