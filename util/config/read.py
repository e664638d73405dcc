"""A config's tree of values as typed ``Settings``, with errors that name file, line and key."""

import dataclasses
from functools import reduce
from pathlib import Path
from typing import Any, TypeVar

from model.registry import every_model
from util.config.checks import checked
from util.config.compose import WITH_WORDS, in_names, model_named, read_tree
from util.config.settings import Config, DataSettings
from util.config.tree import Tree, fill, find, merge, override_tree, places, plain, value_of, with_places
from util.errors import UserError
from util.typecheck import Misfit, convert

MODEL_NAME = "name"  # the key of the model section that picks its settings class
Settings = TypeVar("Settings")


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of ``path`` after inheritance and ``section.key=value`` overrides.

    ``path`` is a file, or the name of a composed config (``util/config/compose.py``). UserError: missing file, broken
    YAML, unknown key, wrong type or impossible value; it names the place.
    """
    return read_with_sources(path, overrides)[0]


def read_with_sources(path: str | Path, overrides: list[str] | None = None) -> tuple[Config, Tree]:
    """Return the same, and the tree that says where each of its values was written; errors as ``read_config``."""
    return _configure(read_tree(Path(path)), str(path), overrides)


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration of plain data of ``origin``, as of ``to_dict``, after overrides; errors as above."""
    return _configure(with_places(content, origin), origin, overrides)[0]


def read_data(path: str | Path) -> DataSettings:
    """Return the data settings of a data set's file alone, such as ``fss1000.yaml``; errors as ``read_config``."""
    tree = read_tree(Path(path))
    return _typed(DataSettings, plain(tree).get("data"), "data", tree, str(path))


def to_dict(config: Config) -> dict[str, Any]:
    """Return the merged configuration as plain data, the form that run folders keep and ``read_config`` reads."""
    out = dataclasses.asdict(config)
    del out["path"], out["given"]
    name = next(name for name, cls in every_model().items() if cls.Settings is type(config.model))
    out["model"] = {MODEL_NAME: name, **out["model"]}
    if config.base_stage is None:
        del out["base_stage"]
    return out


def _configure(tree: Tree, origin: str, overrides: list[str] | None) -> tuple[Config, Tree]:
    """Return the typed and checked configuration of a tree after overrides, and the tree that these make of it.

    Some paths may refer to other settings by words in braces.
    """
    tree = reduce(merge, map(override_tree, overrides or []), tree)
    words = {"dataset": value_of(tree, "data.name"), "fold": value_of(tree, "data.fold")}
    words["encoder"] = in_names(str(value_of(tree, "model.encoder.backbone")))
    for key in WITH_WORDS:
        tree = fill(tree, key, words)
    content = plain(tree)
    if isinstance(content.get("model"), dict):
        settings = model_named(find(tree, "model.name"), origin).Settings
        section = {key: value for key, value in content["model"].items() if key != MODEL_NAME}
        content["model"] = _typed(settings, section, "model", tree, origin)
    for key in {"path", "given"} & content.keys():
        raise _at_place(Misfit(key, f"unknown key '{key}'"), tree, origin)
    config = _typed(Config, {**content, "path": origin, "given": overrides or []}, "", tree, origin)
    if config.run.name is None:
        config = dataclasses.replace(config, run=dataclasses.replace(config.run, name=Path(origin).stem))
    try:
        return checked(config, tree), tree
    except Misfit as misfit:
        raise _at_place(misfit, tree, origin) from None


def _typed(kind: type[Settings], value: Any, key: str, tree: Tree, origin: str) -> Settings:
    try:
        return convert(kind, value, key, as_yaml=True)
    except Misfit as misfit:
        raise _at_place(misfit, tree, origin) from None


def _at_place(misfit: Misfit, tree: Tree, origin: str) -> UserError:
    """Return the error of a wrong value with the place where it was written, or of its section where it is missing."""
    key = misfit.key.partition("[")[0]
    found = find(tree, key) or find(tree, key.rpartition(".")[0])
    return UserError(f"{next(places(found), origin)}: {misfit}")
