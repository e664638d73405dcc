"""A YAML file, or an override, as a tree of values that know where they were written."""

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from util.files.errors import UserError, as_user_error
from util.files.reading import read_text
from util.files.yaml_text import Loader, Misplaced, composed, constructed

Tree = dict[str, Any]  # section or key -> Tree or Leaf


def _is_as_printed(kind: type, word: str) -> bool:
    """Return whether a word is a number as Python prints it."""
    try:
        return str(kind(word)) == word
    except ValueError:
        return False


TAG = "tag:yaml.org,2002:"
# Of YAML's rules; further words, such as 010 and 2026_11_29, stay text until the setting's type is known
OTHERS = {
    f"{TAG}{kind.__name__}": SimpleNamespace(match=functools.partial(_is_as_printed, kind)) for kind in (int, float)
}
# Of what a word of YAML is, by its first letter; a date is text.
RULES = {
    first: [(tag, OTHERS.get(tag, rule)) for tag, rule in rules if tag != f"{TAG}timestamp"]
    for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
LOADER = type("Loader", (Loader,), {"yaml_implicit_resolvers": RULES})
QUOTED = tuple("[{\"'!&*|>")  # begin a value that is more than one word
OVERRIDE = "--set "  # before the place of a value from the command line
LISTED = "python train.py --list prints what there is"
FIX = f"name one under config/, or an experiment such as: split2 pascal --model ssp; {LISTED}"
# Keys of a file: what it changes with an encoder, by its name; the encoder where a command line names none
ENCODERS, NET = "encoders", "net"


@dataclass(frozen=True)
class Leaf:
    """A value (scalar or list) and where it was written."""

    value: Any
    where: str


def flow(value: Any) -> str:
    """Return a value as YAML on one line."""
    return yaml.safe_dump([value], default_flow_style=True, width=float("inf"), allow_unicode=True).strip()[1:-1]


def override(key: str, value: Any) -> str:
    """Return the ``section.key=value`` that sets a key to a value as it is, whatever its characters mean in YAML."""
    return f"{key}={flow(value)}"


def parse_file(path: Path) -> Tree:
    """Return the keys of one YAML file without its bases; UserError if it is missing, broken or has a key twice.

    The tree is that of all calls while the file stays as it is: it must not be changed.
    """
    return _parsed(path, read_text(path, "this config", FIX))


@functools.cache  # a config has 30 files, some of which are asked for ten times
def _parsed(path: Path, text: str) -> Tree:
    try:
        node = _or_no_settings(composed(text, LOADER))
        if not isinstance(node, yaml.MappingNode):
            raise ValueError("a config is a mapping of sections, see util/config/settings.py")
        node.value = [(key, _or_no_settings(value)) for key, value in node.value]
        return _read(node, "", lambda key: f"{path}:{key.start_mark.line + 1}")
    except Misplaced as error:
        (line, *_), problem = error.args
        raise UserError(f"{path}:{line}: not valid YAML: {problem}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None


def _or_no_settings(node: yaml.Node | None) -> yaml.Node:
    """Return a file, or the value of a key of one; where nothing is written but comments, a mapping without keys."""
    if node is None or (node.tag, node.value) == (f"{TAG}null", ""):
        return yaml.MappingNode(f"{TAG}map", [])
    return node


def _read(node: yaml.Node | None, where: str, place_of: Callable[[yaml.Node], str]) -> Any:
    """Return the tree of a mapping, whose keys are written at ``place_of``, or the leaf of another value."""
    if not isinstance(node, yaml.MappingNode):
        return Leaf(None if node is None else constructed(node), where)
    tree: Tree = {}
    for key_node, value in node.value:
        key = str(key_node.value)
        place = place_of(key_node)
        if key in tree:
            raise UserError(f"{place}: key '{key}' is written twice; keep one")
        tree[key] = _read(value, place, place_of)
    return tree


def key_of(override: str) -> str:
    """Return the key of a ``section.key=value``."""
    return override.partition("=")[0].strip()


def override_tree(text: str) -> Tree:
    """Return the tree of one ``section.key=value``; UserError if it has another form, or its value is no YAML."""
    key, _, value = map(str.strip, text.partition("="))
    where = OVERRIDE + text
    with as_user_error(ValueError, RecursionError, before=f"{where}: "):
        if not key or not value:
            raise ValueError("write section.key=value (null for no value)")
        node = composed(value, LOADER) if value.startswith(QUOTED) else _word(value)
        return nested(key, _read(node, where, lambda _: where))


def _word(text: str) -> yaml.Node:
    """Return a text without quotes or brackets as one value, also with # and colons in it."""
    tag = LOADER("").resolve(yaml.ScalarNode, text, (True, False))
    return yaml.ScalarNode(tag, text)


def nested(key: str, value: Any) -> Tree:
    """Return the tree with one value, under a key such as ``model.encoder.backbone``."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def with_places(content: dict[str, Any], origin: str) -> Tree:
    """Return plain data as a tree whose leaves were all written in one place."""
    return {
        key: with_places(value, origin) if isinstance(value, dict) else Leaf(value, origin)
        for key, value in content.items()
    }


def plain(tree: Tree) -> dict[str, Any]:
    """Return the values of a tree without their places."""
    return {key: plain(value) if isinstance(value, dict) else value.value for key, value in tree.items()}


def merge(low: Tree, high: Tree) -> Tree:
    """Return both trees as one; where both have a value, ``high`` wins."""
    out = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        if value != {} or key not in out:  # else nothing is stated
            out[key] = merge(out[key], value) if both else value
    return out


def settings_of(content: Tree) -> Tree:
    """Return the settings of a file's content: without its bases, and without what it says about encoders."""
    return {key: value for key, value in content.items() if key not in ("base", ENCODERS, NET)}


def bases_of(path: Path) -> list[str]:
    """Return the files that a file names as ``base``, with or without their ending: none, one or several."""
    base = value_of(parse_file(path), "base") or []
    return [with_ending(str(name)) for name in (base if isinstance(base, list) else [base])]


def with_ending(name: str) -> str:
    """Return the name of a config's file, which may be written without its ending."""
    return name if name.endswith((".yaml", ".yml")) else f"{name}.yaml"


def find(tree: dict[str, Any], key: str, default: Any = None) -> Any:
    """Return the value under a key such as ``model.encoder.backbone`` in a tree or plain data; else ``default``."""
    value: Any = tree
    for part in key.split("."):
        value = value.get(part, default) if isinstance(value, dict) else default
    return value


def value_of(tree: Tree, key: str) -> Any:
    """Return the value under a key, None where there is none."""
    leaf = find(tree, key)
    return leaf.value if isinstance(leaf, Leaf) else None


def places(value: Any) -> Iterator[str]:
    """Yield where a value was written; for a section, where each of its values was."""
    if isinstance(value, Leaf):
        yield value.where
    for part in value.values() if isinstance(value, dict) else ():
        yield from places(part)


def place_of(tree: Tree, key: str) -> str | None:
    """Return where the value under a key was written or, if it is missing, where its section was begun."""
    key = key.partition("[")[0]
    return next(places(find(tree, key) or find(tree, key.rpartition(".")[0])), None)


def place_written(tree: Tree, origin: str, key: str) -> str | None:
    """Return where a file or an override sets a value, or one of its section; None: neither does."""
    written = (place for place in places(find(tree, key)) if place.startswith((OVERRIDE, f"{origin}:")))
    return next(written, None)
