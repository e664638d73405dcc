"""Settings that were renamed: the one table of their old spellings, and the translation of files that use them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from util.config.tree import Leaf, Tree

ANY = "*"  # in a path: every entry of that section
STAGES = ("base_stage", "meta_stage")
EVALUATION_INPUTS = {"canvas": "letterbox", "squeeze": "stretch"}
SUPPORTS = {"repeatable": "with_replacement"}

log = logging.getLogger("symnet")


@dataclass(frozen=True)
class Alias:
    """A setting's place in a config, its old key if that changed, and the old spellings of its values."""

    path: tuple[str, ...]
    old_key: str | None = None
    values: Mapping[str, str] | None = None


ALIASES = (
    *(Alias((stage, "ema_decay"), old_key="average") for stage in STAGES),
    *(Alias((stage, "input"), values={"squeeze": "stretch"}) for stage in STAGES),
    *(Alias((stage, "supports"), values=SUPPORTS) for stage in STAGES),
    *(Alias((stage, "augment", "fit"), values={"squeeze": "stretch"}) for stage in STAGES),
    Alias(("model", "foreground_weight"), old_key="object_weight"),
    Alias(("protocols", ANY, "query"), values={"walk": "sequential"}),
    Alias(("protocols", ANY, "supports"), values=SUPPORTS),
    Alias(("protocols", ANY, "input"), values=EVALUATION_INPUTS),
    Alias(("protocols", ANY, "scored_on"), values=EVALUATION_INPUTS),
)
_noticed: set[tuple[str, str]] = set()  # notices given by this process: a config may be read several times


def modernise(content: dict[str, Any]) -> dict[str, Any]:
    """Return a config as plain data, such as an old checkpoint's, with today's spelling of renamed settings."""
    return _renamed(content, lambda path, old, new: None)


def modernise_protocol(settings: dict[str, Any]) -> dict[str, Any]:
    """Return one entry of ``protocols`` as plain data, such as an old result's, with today's spelling."""
    return modernise({"protocols": {ANY: settings}})["protocols"][ANY]


def modernise_header(header: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest's header with today's spelling of ``scored_on``."""
    scored_on = header.get("scored_on")
    return {**header, "scored_on": modernise_words(scored_on)} if isinstance(scored_on, str) else header


def modernise_words(text: str) -> str:
    """Return a text that begins with an input rule, such as an old result's ``input``, with the rule's new name."""
    first, *rest = text.split(" ", 1)
    return " ".join([EVALUATION_INPUTS.get(first, first), *rest])


def modernise_tree(tree: Tree, notify: bool) -> Tree:
    """Return a tree of leaves with today's spelling of renamed settings; ``notify``: log a line about each old one."""

    def notice(path: str, old: str, new: str) -> None:
        if notify and (path, old) not in _noticed:
            _noticed.add((path, old))
            log.warning("%s: '%s' is now called '%s'; the old spelling still works", path, old, new)

    return _renamed(tree, notice)


def _renamed(content: dict[str, Any], notice: Callable[[str, str, str], None]) -> dict[str, Any]:
    for alias in ALIASES:
        content = _apply(content, alias, alias.path, notice)
    return content


def _apply(
    section: dict[str, Any], alias: Alias, path: tuple[str, ...], notice: Callable[[str, str, str], None]
) -> dict[str, Any]:
    """Return a section with one alias resolved below it; sections that do not use it are returned as they are."""
    first, *rest = path
    if rest:
        out = section
        for name in [*section] if first == ANY else [first]:
            if isinstance(section.get(name), dict):
                changed = _apply(section[name], alias, tuple(rest), notice)
                out = out if changed is section[name] else {**out, name: changed}
        return out
    if alias.old_key in section and first not in section:
        notice(_place(section[alias.old_key]), alias.old_key, first)
        section = {first if key == alias.old_key else key: value for key, value in section.items()}
    value = section.get(first)
    plain = value.value if isinstance(value, Leaf) else value
    if alias.values is not None and isinstance(plain, str) and plain in alias.values:
        notice(_place(value), f"{first}: {plain}", f"{first}: {alias.values[plain]}")
        new = alias.values[plain]
        section = {**section, first: Leaf(new, value.where) if isinstance(value, Leaf) else new}
    return section


def _place(value: Any) -> str:
    return value.where if isinstance(value, Leaf) else ""
