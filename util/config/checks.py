"""Checks of several keys of a config together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

from model.registry import class_of
from util.config import folds
from util.config.settings import Config, StageSettings
from util.config.tree import Tree, where_of
from util.errors import UserError, nearest

DEFAULTS = "default.yaml"  # every config inherits it
OVERRIDE = "--set "  # before the place of a value from the command line
OF_SCHEDULES = {"poly": ["power"], "step": ["milestones", "decay"]}


def refuse_base_stage(section: Tree, model: str) -> None:
    """Refuse settings of a base stage, beyond those every config inherits, for a model that has none.

    Raises:
        UserError: names the first of them.
    """
    for key, value in section.items():
        if isinstance(value, dict):
            refuse_base_stage(value, model)
        elif Path(value.where.rpartition(":")[0]).name != DEFAULTS:
            raise UserError(
                f"{value.where}: 'base_stage' sets {key}, but model {model} has no base learner and so no base stage; "
                "remove it"
            )


def check(config: Config, tree: Tree) -> None:
    """Refuse values that do not go together: fold and folds, size and model, protocol and its entry.

    Raises:
        UserError: names the first of them, where it was written, and valid values.
    """

    def place(section: str, key: str) -> str:
        at = tree.get(section, {})
        for part in key.split("."):
            at = at.get(part) if isinstance(at, dict) else None
        return where_of(at, config.path)

    data = config.data
    wrong = folds.problem(data)
    if wrong:
        key, message = wrong
        raise UserError(f"{place('data', key)}: data.{key} {message}")
    model_class = class_of(config.model)
    if model_class.has_base_stage and not folds.teach_base_learners(data.mask_form, data.fold_rule):
        raise UserError(
            f"{config.path}: {model_class.title} has a base learner, which needs masks of all classes and folds; data "
            f"set {data.name} has neither; take another method, such as MODEL=hsnet or MODEL=multiprototype"
        )
    if config.test.protocol not in config.protocols:
        hint = nearest(config.test.protocol, config.protocols)
        raise UserError(f"{place('test', 'protocol')}: test.protocol = {config.test.protocol!r} is unknown{hint}")
    for name, protocol in config.protocols.items():
        if found := protocol.problem():
            where = where_of(tree.get("protocols", {}).get(name, {}).get(found[0]), config.path)
            raise UserError(f"{where}: protocols.{name}.{found[0]} {found[1]}")
    sizes = {("data", "size"): data.size}
    if found := config.model.encoder_problem():
        raise UserError(f"{place('model', f'encoder.{found[0]}')}: model.encoder.{found[0]} {found[1]}")
    for name in stages_of(config):
        stage = getattr(config, name)
        if stage is None:
            raise UserError(f"{config.path}: key '{name}' is missing; set it or inherit it with 'base: ...'")
        sizes[name, "size"] = config.stage_size(stage)
        scale = stage.augment.scale
        if scale[0] > scale[1]:
            raise UserError(f"{place(name, 'augment')}: {name}.augment.scale = {scale} must be [low, high]")
    sides = config.model.sides()
    step, rest = model_class.rule(config.model)
    for (section, key), size in sizes.items():
        below, above = model_class.sizes_around(size, config.model)
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


def stages_of(config: Config) -> tuple[str, ...]:
    """Return the sections of the stages that a run has."""
    return ("base_stage", "meta_stage") if class_of(config.model).has_base_stage else ("meta_stage",)


def without_dead_settings(config: Config, tree: Tree) -> Config:
    """Return a config with its own defaults for inherited settings that mean nothing beside others.

    Raises:
        UserError: the config's own file or an override sets one of them.
    """
    for section, settings, keys, reason in _dead(config):
        for key in keys:
            spec = next(f for f in fields(settings) if f.name == key)
            default = spec.default if spec.default_factory is MISSING else spec.default_factory()
            if getattr(settings, key) == default:
                continue
            at: Any = tree
            for part in (*section.split("."), key):
                at = at.get(part) if isinstance(at, dict) else None
            place = where_of(at, config.path)
            if place.startswith(OVERRIDE) or place.rpartition(":")[0] == config.path:
                raise UserError(f"{place}: {section}.{key} has no effect: {reason}; leave it at {default}")
            config = _with(config, [*section.split("."), key], default)
    return config


def _with(settings: Any, path: Sequence[str], value: Any) -> Any:
    """Return nested settings with another value at a path of names."""
    if not path:
        return value
    first, *rest = path
    if isinstance(settings, dict):
        return settings | {first: _with(settings[first], rest, value)}
    return replace(settings, **{first: _with(getattr(settings, first), rest, value)})


def _dead(config: Config) -> Iterator[tuple[str, Any, Sequence[str], str]]:
    """Yield the keys that mean nothing beside other values of a config: section, its settings, keys, reason."""
    if config.data.fold_rule != "given":
        yield "data", config.data, ["fold_classes"], f"data.fold_rule = {config.data.fold_rule} makes the folds"
    encoder = getattr(config.model, "encoder", None)
    if encoder is not None and encoder.weights is None:
        yield "model.encoder", encoder, ["partial", "pretraining"], "model.encoder.weights is null"
    for name in stages_of(config):
        stage: StageSettings | None = getattr(config, name)
        if stage is None:
            continue
        if name == "base_stage":
            keys = ["query", "supports", "input", "views", "cache_gib", "validate_on", "validate_seed"]
            yield name, stage, keys, "it is a setting of the meta stage"
        else:
            yield name, stage, ["images"], "it is a setting of the base stage"
        if not stage.validate_every:
            yield name, stage, ["patience", "validate_midway"], f"{name}.validate_every is 0"
        augment, where = stage.augment, f"{name}.augment"
        if not augment.keep_target:
            yield where, augment, ["keep_tries"], f"{where}.keep_target is 0"
        for key, optimizer in stage.optimizers.items():
            where = f"{name}.optimizers.{key}"
            other = ["momentum", "nesterov"] if optimizer.kind == "adamw" else ["betas"]
            yield where, optimizer, other, f"{where}.kind is {optimizer.kind}"
            for schedule, own in OF_SCHEDULES.items():
                if optimizer.schedule != schedule:
                    yield where, optimizer, own, f"{where}.schedule is {optimizer.schedule}"
