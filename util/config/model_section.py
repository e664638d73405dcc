"""The ``model`` section of older configs: settings that a model handed over to its extension."""

from __future__ import annotations

import functools
import logging
from typing import Any

from model.registry import current_section
from util.config.tree import Leaf, Tree

MODEL, NAME = "model", "name"

log = logging.getLogger("symnet")


def current(content: dict[str, Any]) -> dict[str, Any]:
    """Return a merged config as plain data, such as an older checkpoint's or result's, with today's model section."""
    section = content.get(MODEL)
    return {**content, MODEL: current_section(section)} if isinstance(section, dict) else content


def current_tree(tree: Tree) -> Tree:
    """Return a merged tree with today's model section; the log says where that is another model's."""
    section = tree.get(MODEL)
    if not isinstance(section, dict) or not isinstance(section.get(NAME), Leaf):
        return tree
    given, name = _plain(section), section[NAME]
    now = current_section(given)
    if now[NAME] != given[NAME]:
        _notice(name.where, given[NAME], now[NAME])
        name = Leaf(now[NAME], name.where)
    return {**tree, MODEL: {**{key: section[key] for key in now}, NAME: name}}


@functools.cache  # once, however often a process reads the file
def _notice(where: str, old: str, new: str) -> None:
    log.warning("%s: model.name = %s with settings of %s now means %s; write that name", where, old, new, new)


def _plain(tree: Tree) -> dict[str, Any]:
    """Return the values of a tree without the places where they were written."""
    return {key: _plain(value) if isinstance(value, dict) else value.value for key, value in tree.items()}
