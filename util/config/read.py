"""Read a YAML file with inheritance and overrides into ``Settings``, with errors that name file, line and key."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from pathlib import Path
from typing import Any, Literal

from model.registry import class_of, models
from util.config.checks import check, refuse_base_stage
from util.config.model_section import current_tree
from util.config.settings import Config
from util.config.tree import Leaf, Tree, leaves, merge, override_tree, read_tree, where_of
from util.errors import UserError, nearest

MODEL_NAME = "name"  # the key of the model section that picks its settings class
MODEL_PREFIX = "model."


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of ``path`` after inheritance and ``section.key=value`` overrides.

    Raises:
        UserError: missing file, broken YAML, unknown key, wrong type or impossible value; it names the place.
    """
    return _configure(read_tree(Path(path)), str(path), overrides or [])


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration that ``to_dict`` made plain data of, such as a checkpoint's, after overrides.

    Raises:
        UserError: as ``read_config``; ``origin`` is where it came from.
    """
    return _configure(leaves(content, origin), origin, overrides or [])


def _configure(tree: Tree, origin: str, overrides: list[str]) -> Config:
    """Return the typed and checked configuration of a tree of leaves."""
    for text in overrides:
        tree = merge(tree, override_tree(text))
    tree = current_tree(tree)
    config = _build_section(Config, tree, "", origin)
    config.path = origin
    if config.run.name is None:
        config.run.name = Path(origin).stem
    if not class_of(config.model).has_base_stage:
        refuse_base_stage(tree.get("base_stage", {}), to_dict(config)["model"][MODEL_NAME])
        config.base_stage = None
    check(config, tree)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the merged configuration as plain data, the form that run folders keep and ``read_config`` reads."""
    out = dataclasses.asdict(config)
    name = next(name for name, cls in models().items() if cls.Settings is type(config.model))
    out["model"] = {MODEL_NAME: name, **out["model"]}
    if config.base_stage is None:
        del out["base_stage"]
    return out


def _build_section(cls: type, tree: Tree, prefix: str, origin: str) -> Any:
    if cls is Config and isinstance(tree.get("model"), dict):
        tree = {**tree, "model": dict(tree["model"])}
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in known:
            hint = _owners(key) if prefix == MODEL_PREFIX else ""
            raise UserError(f"{where_of(value, origin)}: unknown key '{prefix}{key}'{hint or nearest(key, known)}")
        kind = hints[key]
        if cls is Config and key == "model":
            kind = _model_settings(value, origin)
        values[key] = _convert(kind, value, f"{prefix}{key}", where_of(value, origin), known[key].metadata)
    for name, spec in known.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if name not in values and required:
            raise UserError(f"{origin}: key '{prefix}{name}' is missing; set it or inherit it with 'base: ...'")
    return cls(**values)


def _owners(key: str) -> str:
    """Return which other models a model's unknown key belongs to."""
    owners = sorted(n for n, cls in models().items() if key in {f.name for f in dataclasses.fields(cls.Settings)})
    return f", a setting of {' and '.join(owners)} that this model does not use; remove it" if owners else ""


def _model_settings(section: Any, origin: str) -> type:
    known = models()
    leaf = section.pop(MODEL_NAME, None) if isinstance(section, dict) else None
    if not isinstance(leaf, Leaf):
        raise UserError(f"{origin}: key 'model.name' is missing; known: {', '.join(sorted(known))}")
    if leaf.value not in known:
        raise UserError(f"{leaf.where}: model.name = {leaf.value!r} is not a model{nearest(str(leaf.value), known)}")
    return known[leaf.value].Settings


def _convert(kind: Any, value: Any, key: str, where: str, metadata: Any) -> Any:
    sections = [part for part in typing.get_args(kind) if dataclasses.is_dataclass(part)]
    if sections and typing.get_origin(kind) in (typing.Union, types.UnionType):  # a section that may be absent
        kind = sections[0]
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} must be a section of keys, not a single value")
        return _build_section(kind, value, f"{key}.", where)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise UserError(f"{where}: {key} must be a section of named entries")
        inner = typing.get_args(kind)[1]
        return {name: _convert(inner, v, f"{key}.{name}", where_of(v, where), {}) for name, v in value.items()}
    if isinstance(value, dict):
        raise UserError(f"{where}: {key} must be {_kind_name(kind)}, not a section")
    _refuse_removed(value.value, key, where, metadata)
    result = _convert_plain(kind, value.value, key, where)
    _check_choice(result, key, where, metadata)
    _check_bounds(result, key, where, metadata)
    return result


def _convert_plain(kind: Any, value: Any, key: str, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert_plain(next(a for a in arguments if a is not type(None)), value, key, where)
    if origin is Literal:
        _check_choice(value, key, where, {"choices": arguments})
        return value
    if origin is list:
        if isinstance(value, list):
            return [_convert_plain(arguments[0], v, f"{key}[{i}]", where) for i, v in enumerate(value)]
    elif kind is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    elif kind in (int, bool) and type(value) is kind:
        return value
    elif kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise UserError(f"{where}: {key} = {value!r} must be {_kind_name(kind)}")


def _kind_name(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    if typing.get_origin(kind) is list:
        return f"a list, each {_kind_name(typing.get_args(kind)[0])}"
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join("null" if a is type(None) else _kind_name(a) for a in typing.get_args(kind))
    return names.get(kind, str(kind))


def _refuse_removed(value: Any, key: str, where: str, metadata: Any) -> None:
    """Refuse a choice that older versions had; the field's metadata says why it was removed."""
    removed = metadata.get("removed", {})
    if isinstance(value, str) and value in removed:
        raise UserError(f"{where}: {key} = {value!r} was removed: {removed[value]}; remove the key for its default")


def _check_choice(value: Any, key: str, where: str, metadata: Any) -> None:
    choices = metadata.get("choices")
    if choices is None or value in choices:
        return
    names = [str(choice) for choice in choices]
    hint = nearest(str(value), names)
    raise UserError(f"{where}: {key} = {value!r} is not one of {', '.join(names)}{hint}")


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
        if (low is not None and item < low) or (high is not None and item > high) or not math.isfinite(item):
            allowed = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"{where}: {key} = {item} is out of range; allowed: {allowed}")
