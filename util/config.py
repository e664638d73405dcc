"""Read a YAML file with inheritance and overrides into ``Settings``, with errors that name file, line and key."""

from __future__ import annotations

import dataclasses
import math
import types
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from model.registry import class_of, models
from util.data import folds
from util.errors import UserError, nearest
from util.settings import Config

DEFAULTS = "default.yaml"  # what every config inherits
MODEL_NAME = "name"  # the key of the model section that picks its settings class
MODEL_PREFIX = "model."


@dataclass
class Leaf:
    """A value (scalar or list) and where it was written."""

    value: Any
    where: str


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of ``path`` after inheritance and ``section.key=value`` overrides.

    Raises:
        UserError: missing file, broken YAML, unknown key, wrong type or impossible value; it names the place.
    """
    return _configure(_read_tree(Path(path), ()), str(path), overrides or [])


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration that ``to_dict`` made plain data of, such as a checkpoint's, after overrides.

    Raises:
        UserError: as ``read_config``; ``origin`` is where it came from.
    """
    return _configure(_leaves(content, origin), origin, overrides or [])


def _configure(tree: dict[str, Any], origin: str, overrides: list[str]) -> Config:
    """Return the typed and checked configuration of a tree of leaves."""
    for text in overrides:
        tree = _merge(tree, _override_tree(text))
    config = _build_section(Config, tree, "", origin)
    config.path = origin
    if config.run.name is None:
        config.run.name = Path(origin).stem
    if not class_of(config.model).has_base_stage:
        _refuse_base_stage(tree.get("base_stage", {}), to_dict(config)["model"][MODEL_NAME])
        config.base_stage = None
    _check(config, tree)
    return config


def to_dict(config: Config) -> dict[str, Any]:
    """Return the merged configuration as plain data, the form that run folders keep and ``read_config`` reads."""
    out = dataclasses.asdict(config)
    name = next(name for name, cls in models().items() if cls.Settings is type(config.model))
    out["model"] = {MODEL_NAME: name, **out["model"]}
    if config.base_stage is None:
        del out["base_stage"]
    return out


# --- files to a tree of leaves ---------------------------------------------------------------------------------------


def _read_tree(path: Path, seen: tuple[Path, ...]) -> dict[str, Any]:
    if path.resolve() in seen:
        raise UserError(f"{path}: 'base' leads back to this file; remove one link of the circle")
    try:
        with open(path, encoding="utf-8") as file:
            node = yaml.compose(file, Loader=yaml.SafeLoader)
    except OSError as error:
        raise UserError(
            f"{path}: cannot read this config ({error.strerror}); see config/ for those there are"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not valid YAML: {error}") from None
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise UserError(f"{path}: a config is a mapping of sections, see config/default.yaml")
    tree = _node_to_tree(node, path) if node is not None else {}
    bases = tree.pop("base", Leaf([], str(path)))
    if not isinstance(bases, Leaf):
        raise UserError(f"{path}: 'base' must be a file name or a list of them")
    merged: dict[str, Any] = {}
    for base in bases.value if isinstance(bases.value, list) else [bases.value]:
        merged = _merge(merged, _read_tree(path.parent / str(base), (*seen, path.resolve())))
    return _merge(merged, tree)


def _node_to_tree(node: yaml.MappingNode, path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, where = str(key_node.value), f"{path}:{key_node.start_mark.line + 1}"
        if key in tree:
            raise UserError(f"{where}: key '{key}' is written twice; keep one")
        if isinstance(value_node, yaml.MappingNode):
            tree[key] = _node_to_tree(value_node, path)
        else:
            loader = yaml.SafeLoader("")
            try:
                tree[key] = Leaf(loader.construct_object(value_node, deep=True), where)
            except (yaml.YAMLError, ValueError) as error:
                raise UserError(f"{where}: key '{key}': {error}") from None
    return tree


def _leaves(content: dict[str, Any], origin: str) -> dict[str, Any]:
    """Return plain data as a tree of leaves that were all written in one place."""
    return {k: _leaves(v, origin) if isinstance(v, dict) else Leaf(v, origin) for k, v in content.items()}


def _override_tree(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {text}: write it as --set section.key=value")
    try:
        tree: Any = Leaf(yaml.safe_load(value), f"--set {text}")
    except (yaml.YAMLError, ValueError) as error:
        raise UserError(f"--set {text}: not a YAML value: {error}") from None
    for part in reversed(key.strip().split(".")):
        tree = {part: tree}
    return tree


def _merge(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
    out = dict(low)
    for key, value in high.items():
        both = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = _merge(out[key], value) if both else value
    return out


# --- a tree of leaves to dataclasses ---------------------------------------------------------------------------------


def _where(value: Any, fallback: str) -> str:
    """Return where a value was written; for a section, where its first key was."""
    while isinstance(value, dict) and value:
        value = next(iter(value.values()))
    return value.where if isinstance(value, Leaf) else fallback


def _build_section(cls: type, tree: dict[str, Any], prefix: str, origin: str) -> Any:
    if cls is Config and isinstance(tree.get("model"), dict):
        tree = {**tree, "model": dict(tree["model"])}
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    values: dict[str, Any] = {}
    for key, value in tree.items():
        if key not in known:
            hint = _owners(key) if prefix == MODEL_PREFIX else ""
            raise UserError(f"{_where(value, origin)}: unknown key '{prefix}{key}'{hint or nearest(key, known)}")
        kind = hints[key]
        if cls is Config and key == "model":
            kind = _model_settings(value, origin)
        values[key] = _convert(kind, value, f"{prefix}{key}", _where(value, origin), known[key].metadata)
    for name, spec in known.items():
        required = spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING
        if name not in values and required:
            raise UserError(f"{origin}: key '{prefix}{name}' is missing; set it or inherit it with 'base: ...'")
    return cls(**values)


def _owners(key: str) -> str:
    """Return which other models a model's unknown key belongs to."""
    owners = [name for name, cls in models().items() if key in {f.name for f in dataclasses.fields(cls.Settings)}]
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
        return {name: _convert(inner, v, f"{key}.{name}", _where(v, where), {}) for name, v in value.items()}
    if isinstance(value, dict):
        raise UserError(f"{where}: {key} must be {_kind_name(kind)}, not a section")
    result = _convert_plain(kind, value.value, key, where)
    _check_bounds(result, key, where, metadata)
    return result


def _convert_plain(kind: Any, value: Any, key: str, where: str) -> Any:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if value is None:
            return None
        return _convert_plain(next(a for a in arguments if a is not type(None)), value, key, where)
    if origin is Literal:
        if value in arguments:
            return value
        hint = nearest(str(value), [str(a) for a in arguments])
        raise UserError(f"{where}: {key} = {value!r} is not one of {', '.join(map(str, arguments))}{hint}")
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


def _check_bounds(value: Any, key: str, where: str, metadata: Any) -> None:
    low, high = metadata.get("low"), metadata.get("high")
    shortest, longest = metadata.get("length", (0, None))
    if isinstance(value, list) and (len(value) < shortest or (longest is not None and len(value) > longest)):
        count = shortest if shortest == longest else f"at least {shortest}"
        raise UserError(f"{where}: {key} = {value} must hold {count} values")
    for item in value if isinstance(value, list) else [value]:
        if item is None or not isinstance(item, (int, float)):
            continue
        if (low is not None and item < low) or (high is not None and item > high) or not math.isfinite(item):
            allowed = f"at least {low}" if high is None else f"between {low} and {high}"
            raise UserError(f"{where}: {key} = {item} is out of range; allowed: {allowed}")


# --- what no single key can tell -------------------------------------------------------------------------------------


def _refuse_base_stage(section: dict[str, Any], model: str) -> None:
    """Refuse settings of a base stage, beyond those every config inherits, for a model that has none.

    Raises:
        UserError: names the first of them.
    """
    for key, value in section.items():
        if isinstance(value, dict):
            _refuse_base_stage(value, model)
        elif Path(value.where.rpartition(":")[0]).name != DEFAULTS:
            raise UserError(
                f"{value.where}: 'base_stage' sets {key}, but model {model} has no base learner and so no base stage; "
                "remove it"
            )


def _check(config: Config, tree: dict[str, Any]) -> None:
    """Refuse values that only make sense together: fold and folds, size and model, protocol and its entry."""

    def place(section: str, key: str) -> str:
        return _where(tree.get(section, {}).get(key), config.path)

    data = config.data
    wrong = folds.problem(data)
    if wrong:
        key, message = wrong
        raise UserError(f"{place('data', key)}: data.{key} {message}")
    if config.test.protocol not in config.protocols:
        hint = nearest(config.test.protocol, config.protocols)
        raise UserError(f"{place('test', 'protocol')}: test.protocol = {config.test.protocol!r} is unknown{hint}")
    for name, protocol in config.protocols.items():
        if found := protocol.problem():
            where = _where(tree.get("protocols", {}).get(name, {}).get(found[0]), config.path)
            raise UserError(f"{where}: protocols.{name}.{found[0]} {found[1]}")
    sizes = {("data", "size"): data.size}
    model_class = class_of(config.model)
    stages = ("base_stage", "meta_stage") if model_class.has_base_stage else ("meta_stage",)
    for name in stages:
        stage = getattr(config, name)
        if stage is None:
            raise UserError(f"{config.path}: key '{name}' is missing; set it or inherit it with 'base: ...'")
        sizes[name, "size"] = config.stage_size(stage)
        scale = stage.augment.scale
        if scale[0] > scale[1]:
            raise UserError(f"{place(name, 'augment')}: {name}.augment.scale = {scale} must be [low, high]")
    sides = config.model.sides()
    step, rest = model_class.size_rule
    for (section, key), size in sizes.items():
        below, above = model_class.sizes_around(size)
        if size != below:
            rule = f"{step}k + {rest}" if rest else f"a multiple of {step}"
            raise UserError(f"{place(section, key)}: {section}.{key} = {size} is not {rule}; nearest: {below}, {above}")
        if sides is not None and size not in sides:
            raise UserError(
                f"{place(section, key)}: {section}.{key} = {size} is no image side that {model_class.title} takes with "
                f"{config.model.backbone()}; valid: {', '.join(map(str, sides))}"
            )
    problem = config.model.problem(data.size)
    if problem:
        key, message = problem
        raise UserError(f"{place('model', key)}: model.{key} {message}")
