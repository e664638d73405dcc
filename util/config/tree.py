"""A YAML file, or an override, as a tree of values that know where they were written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from util.errors import UserError
from util.files import read_text


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True).strip()[1:-1]


def override(key: str, value: Any) -> str:
    """Return the ``section.key=value`` that sets a key to a value as it is, whatever its characters mean in YAML."""
    return f"{key}={flow(value)}"


def comment(text: str) -> str:
    """Return a text that stays in the comment that it is written in: on one line, every character printable."""
    return "".join(c if c.isprintable() else " " for c in text)


Tree = dict[str, Any]  # section or key -> Tree or Leaf
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast, where libyaml is installed


@dataclass(frozen=True)
class Leaf:
    """A value (scalar or list) and where it was written."""

    value: Any
    where: str


def parse_file(path: Path) -> Tree:
    """Return the keys of one YAML file; files that it names as ``base`` are not read.

    Raises:
        UserError: missing file, broken YAML, or a key written twice; it names the place.
    """
    text = read_text(path, "this config", "the existing ones are under config/")
    try:
        node = yaml.compose(text, Loader=LOADER)
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: a config is a mapping of sections, see config/default.yaml")
    return _node_to_tree(node, path)


def _node_to_tree(node: yaml.MappingNode, path: Path) -> Tree:
    tree: Tree = {}
    loader = yaml.SafeLoader("")
    for key_node, value_node in node.value:
        key, where = str(key_node.value), f"{path}:{key_node.start_mark.line + 1}"
        if key in tree:
            raise UserError(f"{where}: key '{key}' is written twice; keep one")
        if isinstance(value_node, yaml.MappingNode):
            tree[key] = _node_to_tree(value_node, path)
        else:
            try:
                tree[key] = Leaf(loader.construct_object(value_node, deep=True), where)
            except (yaml.YAMLError, ValueError, RecursionError) as error:
                raise UserError(f"{where}: key '{key}': {error}") from None
    return tree


def leaves(content: dict[str, Any], origin: str) -> Tree:
    """Return plain data as a tree whose leaves were all written in one place."""
    return {k: leaves(v, origin) if isinstance(v, dict) else Leaf(v, origin) for k, v in content.items()}


def override_tree(text: str) -> Tree:
    """Return the tree of one ``section.key=value``.

    Raises:
        UserError: it has another form, or its value is not valid YAML.
    """
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write it as --set section.key=value")
    try:
        tree: Any = Leaf(yaml.safe_load(value), f"--set {text}")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"--set {text}: not a YAML value: {error}") from None
    for part in reversed(key.strip().split(".")):
        tree = {part: tree}
    return tree


def merge(low: Tree, high: Tree) -> Tree:
    """Return both trees as one; where both have a value, that of ``high``."""
    out = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merge(out[key], value) if both else value
    return out


def find(tree: Tree, dotted: str) -> Any:
    """Return the leaf or section under a key such as ``model.encoder.backbone``, None where there is none."""
    value: Any = tree
    for part in dotted.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def where_of(value: Any, fallback: str) -> str:
    """Return where a value was written; for a section, where its first key was."""
    while isinstance(value, dict) and value:
        value = next(iter(value.values()))
    return value.where if isinstance(value, Leaf) else fallback
