"""A config's tree of values as typed ``Settings``, with errors that name file, line and key."""

from __future__ import annotations

import dataclasses
import types
import typing
from pathlib import Path
from typing import Any

from model.contract import ModelSettings
from model.registry import class_of, models
from util.config.checks import check, refuse_base_stage, without_dead_settings
from util.config.inherit import ENCODER_WORD, read_tree
from util.config.settings import Config, DataSettings
from util.config.tree import Leaf, Tree, find, leaves, merge, override_tree, where_of
from util.errors import UserError, nearest
from util.typecheck import Misfit, convert, hints_of, kind_name

MODEL_NAME = "name"  # the key of the model section that picks its settings class
MODEL_PREFIX = "model."
MAX_NUMBER = 2**63 - 1  # the largest whole number that a tensor holds
MAX_NAME = 200  # characters of a name that becomes part of a path
PATH = "path"  # the field of Config that is no setting
# Settings that may refer to others by these words in braces, and the settings they stand for.
TEMPLATES = ("run.base_folder", "model.encoder.weights")
WORDS = {"{dataset}": "data.name", "{fold}": "data.fold", "{backbone}": "model.encoder.backbone"}
WORDS |= {ENCODER_WORD: "model.encoder.backbone"}  # where no composed name says the encoder's


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of ``path`` after inheritance and ``section.key=value`` overrides.

    ``path`` is a file, or the name of a composed config (``util/config/compose.py``).

    Raises:
        UserError: missing file, broken YAML, unknown key, wrong type or impossible value; it names the place.
    """
    return read_with_sources(path, overrides)[0]


def read_with_sources(path: str | Path, overrides: list[str] | None = None) -> tuple[Config, Tree]:
    """Return the same configuration, and the tree that says where each of its values was written.

    Raises:
        UserError: as ``read_config``.
    """
    tree = _with_overrides(read_tree(Path(path)), overrides or [])
    return _configure(tree, str(path)), tree


def read_data(path: str | Path) -> DataSettings:
    """Return the data settings of a data set's file alone, such as ``config/fss1000/fss1000.yaml``.

    Raises:
        UserError: as ``read_config``.
    """
    section = read_tree(Path(path)).get("data")
    if not isinstance(section, dict):
        raise UserError(f"{path}: has no section 'data'; name the file of a data set")
    return _build_section(DataSettings, section, "data.", str(path))


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration of plain data from ``to_dict``, such as a checkpoint's, after overrides.

    Raises:
        UserError: as ``read_config``; ``origin`` is where it came from.
    """
    return _configure(_with_overrides(leaves(content, origin), overrides or []), origin)


def to_dict(config: Config) -> dict[str, Any]:
    """Return the merged configuration as plain data, the form that run folders keep and ``read_config`` reads."""
    out = dataclasses.asdict(config)
    del out[PATH]
    name = next(name for name, cls in models().items() if cls.Settings is type(config.model))
    out["model"] = {MODEL_NAME: name, **out["model"]}
    if config.base_stage is None:
        del out["base_stage"]
    return out


def _with_overrides(tree: Tree, overrides: list[str]) -> Tree:
    """Return a tree after overrides, the words in braces of ``TEMPLATES`` replaced by the settings they mean."""
    for text in overrides:
        tree = merge(tree, override_tree(text))
    for key in TEMPLATES:
        leaf = find(tree, key)
        if not isinstance(leaf, Leaf) or not isinstance(leaf.value, str):
            continue
        value = leaf.value
        for word, meaning in WORDS.items():
            if isinstance(given := find(tree, meaning), Leaf):
                value = value.replace(word, str(given.value))
        if value != leaf.value:
            new: Any = Leaf(value, leaf.where)
            for part in reversed(key.split(".")):
                new = {part: new}
            tree = merge(tree, new)
    return tree


def _configure(tree: Tree, origin: str) -> Config:
    """Return the typed and checked configuration of a tree."""
    config: Config = dataclasses.replace(_build_section(Config, tree, "", origin), path=origin)
    if config.run.name is None:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=Path(origin).stem))
    if not class_of(config.model).has_base_stage:
        refuse_base_stage(tree.get("base_stage", {}), to_dict(config)["model"][MODEL_NAME])
        config = dataclasses.replace(config, base_stage=None)
    check(config, tree)
    return without_dead_settings(config, tree)


def _build_section(cls: type, tree: Tree, prefix: str, origin: str) -> Any:
    if cls is Config and isinstance(tree.get("model"), dict):
        tree = {**tree, "model": dict(tree["model"])}
    hints = hints_of(cls)
    known = {f.name: f for f in dataclasses.fields(cls) if not (cls is Config and f.name == PATH)}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in known:
            hint = _owners(key) if prefix == MODEL_PREFIX else ""
            raise UserError(f"{where_of(value, origin)}: unknown key '{prefix}{key}'{hint or nearest(key, known)}")
        kind = hints[key]
        if cls is Config and key == "model":
            kind = _model_settings(value, origin)
        values[key] = _build_value(kind, value, f"{prefix}{key}", where_of(value, origin), known[key].metadata)
    for name, spec in known.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if name not in values and required:
            raise UserError(f"{origin}: key '{prefix}{name}' is missing; set it or inherit it with 'base: ...'")
    return cls(**values)


def _owners(key: str) -> str:
    """Return which other models a model's unknown key belongs to, in words."""
    owners = sorted(n for n, cls in models().items() if key in {f.name for f in dataclasses.fields(cls.Settings)})
    return f", a setting of {', '.join(owners)} that this model does not use; remove it" if owners else ""


def _model_settings(section: Any, origin: str) -> type[ModelSettings]:
    known = models()
    leaf = section.pop(MODEL_NAME, None) if isinstance(section, dict) else None
    if not isinstance(leaf, Leaf):
        raise UserError(f"{origin}: key 'model.name' is missing; known: {', '.join(sorted(known))}")
    if not isinstance(leaf.value, str) or leaf.value not in known:
        raise UserError(f"{leaf.where}: model.name = {leaf.value!r} is not a model{nearest(str(leaf.value), known)}")
    return known[leaf.value].Settings


def _build_value(kind: Any, value: Any, key: str, where: str, metadata: Any) -> Any:
    """Return the value of one key: a section, named entries, or a leaf's value."""
    sections = [part for part in typing.get_args(kind) if isinstance(part, type) and dataclasses.is_dataclass(part)]
    if sections and typing.get_origin(kind) in (typing.Union, types.UnionType):  # a section that may be absent
        if isinstance(value, Leaf) and value.value is None:
            return None
        kind = sections[0]
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} must be a section of keys, not a single value")
        return _build_section(kind, value, f"{key}.", where)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} must be a section of named entries")
        inner = typing.get_args(kind)[1]
        return {name: _build_value(inner, v, f"{key}.{name}", where_of(v, where), {}) for name, v in value.items()}
    if isinstance(value, dict):
        raise UserError(f"{where}: {key} must be {kind_name(kind)}, not a section")
    try:
        result = convert(kind, value.value, key, as_yaml=True)
    except Misfit as misfit:
        raise UserError(f"{where}: {misfit}") from None
    _check_problem(result, key, where, metadata)
    _check_bounds(result, key, where, metadata)
    if metadata.get("file_name") and result is not None:
        _check_file_name(result, key, where)
    return result


def _check_problem(value: Any, key: str, where: str, metadata: Any) -> None:
    """Refuse a value by the check that a field's metadata holds."""
    check = metadata.get("problem")
    problem = None if check is None else check(value)
    if problem is not None:
        raise UserError(f"{where}: {key} = {value!r}: {problem}")


def _check_file_name(value: str, key: str, where: str) -> None:
    """Refuse a name that would lead out of the folder that it names a file or folder in."""
    parts = value.split("/")
    if not value.strip() or not value.isprintable() or len(value) > MAX_NAME or {"", ".", ".."} & {*parts}:
        raise UserError(
            f"{where}: {key} = {value[:MAX_NAME]!r} must be a name of 1 to {MAX_NAME} characters, not a path"
        )


def _check_bounds(value: Any, key: str, where: str, metadata: Any) -> None:
    low, high = metadata.get("low"), metadata.get("high")
    shortest, longest = metadata.get("length", (0, None))
    if isinstance(value, list) and (len(value) < shortest or (longest is not None and len(value) > longest)):
        count = f"at least {shortest}" if longest is None else f"{shortest} to {longest}"
        count = shortest if shortest == longest else count
        raise UserError(f"{where}: {key} = {value} must hold {count} values")
    for item in value if isinstance(value, list) else [value]:
        if item is None or not isinstance(item, (int, float)):
            continue
        top = MAX_NUMBER if high is None else high
        if (low is not None and item < low) or not -MAX_NUMBER <= item <= top:  # NaN is in no range
            allowed = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"{where}: {key} = {str(item)[:MAX_NAME]} is out of range; allowed: {allowed}")
