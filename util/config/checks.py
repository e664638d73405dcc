"""Checks of several keys of a config together."""

from __future__ import annotations

from pathlib import Path

from model.registry import class_of
from util.config.settings import Config
from util.config.tree import Tree, where_of
from util.data import folds
from util.errors import UserError, nearest

DEFAULTS = "default.yaml"  # every config inherits it


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
    stages = ("base_stage", "meta_stage") if model_class.has_base_stage else ("meta_stage",)
    for name in stages:
        stage = getattr(config, name)
        if stage is None:
            raise UserError(f"{config.path}: key '{name}' is missing; set it or inherit it with 'base: ...'")
        sizes[name, "size"] = config.stage_size(stage)
        if name == "base_stage" and (stage.views is not None or stage.cache_gib is not None):
            key = "views" if stage.views is not None else "cache_gib"
            raise UserError(f"{place(name, key)}: {name}.{key} is a setting of the meta stage; remove it here")
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
