"""Checks of several keys of a config together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import MISSING, fields, replace
from functools import reduce
from typing import Any

from model.registry import class_of
from util.config import folds
from util.config.settings import Config
from util.config.tree import OVERRIDE, Tree, find, places
from util.errors import nearest
from util.typecheck import Misfit

OF_SCHEDULES = {"poly": ["power"], "step": ["milestones", "decay"]}
OF_OPTIMIZERS = {"sgd": ["momentum", "nesterov"], "adamw": ["betas"]}
OF_META_STAGE = ["query", "supports", "input", "views", "cache_gib", "validate_on", "validate_seed"]


def checked(config: Config, tree: Tree) -> Config:
    """Return a config whose values go together; inherited settings that mean nothing have their own defaults.

    Raises:
        Misfit: some do not, or the config's own file or an override sets one that means nothing.
    """
    for key, problem in _problems(config):
        raise Misfit(key, f"{key} {problem}".strip())
    for section, key, reason in _dead(config):
        settings = reduce(_get, filter(None, section.split(".")), config)
        spec = next(f for f in fields(settings) if f.name == key)
        default = spec.default if spec.default_factory is MISSING else spec.default_factory()
        name = f"{section}.{key}".strip(".")
        own = [p for p in places(find(tree, name)) if p.startswith(OVERRIDE) or p.rpartition(":")[0] == config.path]
        if getattr(settings, key) != default and own:
            raise Misfit(name, f"{name} has no effect: {reason}; leave it at {default}")
        config = _with(config, name.split("."), default)
    return config


def stages_of(config: Config) -> tuple[str, ...]:
    """Return the sections of the stages that a run has."""
    return ("base_stage", "meta_stage") if class_of(config.model).has_base_stage else ("meta_stage",)


def _problems(config: Config) -> Iterator[tuple[str, str]]:
    """Yield (key, problem and remedy in words) for values that do not go together."""
    data, model, cls = config.data, config.model, class_of(config.model)
    if found := folds.problem(data):
        yield f"data.{found[0]}", found[1]
    if cls.has_base_stage and not folds.teach_base_learners(data.mask_form, data.fold_rule):
        yield (
            "",
            f"{cls.title} has a base learner, which needs masks of all classes and folds; data set {data.name} has "
            "neither; take another method, such as MODEL=hsnet or MODEL=multiprototype",
        )
    if config.test.protocol not in config.protocols:
        hint = nearest(config.test.protocol, config.protocols)
        yield "test.protocol", f"= {config.test.protocol!r} is unknown{hint}"
    for name, protocol in config.protocols.items():
        if found := protocol.problem():
            yield f"protocols.{name}.{found[0]}", found[1]
    if found := model.encoder_problem():
        yield f"model.encoder.{found[0]}", found[1]
    sizes, sides, (step, rest) = {"data.size": data.size}, model.sides(), cls.rule(model)
    for name in stages_of(config):
        stage = getattr(config, name)
        if stage is None:
            yield "", f"key '{name}' is missing; set it or inherit it with 'base: ...'"
        low, high = stage.augment.scale
        if low > high:
            yield f"{name}.augment.scale", f"= {stage.augment.scale} must be [low, high]"
        sizes[f"{name}.size"] = config.stage_size(stage)
    for key, size in sizes.items():
        below, above = cls.sizes_around(size, model)
        if size != below:
            rule = f"{step}k + {rest}" if rest else f"a multiple of {step}"
            yield key, f"= {size} is not {rule}; nearest: {below}, {above}"
        if sides is not None and size not in sides:
            taken = f"{cls.title} takes with {model.backbone()}; valid: {', '.join(map(str, sides))}"
            yield key, f"= {size} is no image side that {taken}"
    if found := model.problem(data.size):
        yield f"model.{found[0]}", found[1]


def _dead(config: Config) -> Iterator[tuple[str, str, str]]:
    """Yield the keys that mean nothing beside other values of a config: section, key, reason."""
    dead: list[tuple[str, Sequence[str], str]] = []
    if config.data.fold_rule != "given":
        dead.append(("data", ["fold_classes"], f"data.fold_rule = {config.data.fold_rule} makes the folds"))
    encoder = getattr(config.model, "encoder", None)
    if encoder is not None and encoder.weights is None:
        dead.append(("model.encoder", ["partial", "pretraining"], "model.encoder.weights is null"))
    if "base_stage" not in stages_of(config):
        dead.append(("", ["base_stage"], f"{class_of(config.model).title} has no base learner and so no base stage"))
    for name in stages_of(config):
        stage = getattr(config, name)
        if name == "base_stage":
            dead.append((name, OF_META_STAGE, "it is a setting of the meta stage"))
        else:
            dead.append((name, ["images"], "it is a setting of the base stage"))
        if not stage.validate_every:
            dead.append((name, ["patience", "validate_midway"], f"{name}.validate_every is 0"))
        if not stage.augment.keep_target:
            dead.append((f"{name}.augment", ["keep_tries"], f"{name}.augment.keep_target is 0"))
        for key, optimizer in stage.optimizers.items():
            where = f"{name}.optimizers.{key}"
            for setting, of in (("kind", OF_OPTIMIZERS), ("schedule", OF_SCHEDULES)):
                value = getattr(optimizer, setting)
                for other in of.keys() - {value}:
                    dead.append((where, of[other], f"{where}.{setting} is {value}"))
    for section, keys, reason in dead:
        yield from ((section, key, reason) for key in keys)


def _get(settings: Any, name: str) -> Any:
    return settings[name] if isinstance(settings, dict) else getattr(settings, name)


def _with(settings: Any, path: Sequence[str], value: Any) -> Any:
    """Return nested settings with another value at a path of names."""
    if not path:
        return value
    first, *rest = path
    changed = {first: _with(_get(settings, first), rest, value)}
    return settings | changed if isinstance(settings, dict) else replace(settings, **changed)
