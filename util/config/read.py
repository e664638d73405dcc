"""A config's tree of values as typed ``Settings``, with errors that name file, line and key."""

import dataclasses
from pathlib import Path
from typing import Any

from model.registry import every_model
from util.config.checks import checked
from util.config.compose import completed, read_tree
from util.config.settings import Config, DataSettings, TestSettings
from util.config.tree import Tree, keys_written_in, place_of, plain, with_places
from util.errors import UserError, nearest
from util.files import REPOSITORY
from util.typecheck import Misfit, convert

MODEL_NAME = "name"  # the key of the model section that picks its settings class


def read_config(path: str | Path, overrides: list[str] | None = None) -> Config:
    """Return the typed configuration of ``path`` after inheritance and ``section.key=value`` overrides.

    ``path`` is a file, or has the name of a run (``util/config/compose.py``). UserError: missing file, broken
    YAML, unknown key, wrong type or impossible value; it names the place.
    """
    return read_with_sources(path, overrides)[0]


def read_with_sources(path: str | Path, overrides: list[str] | None = None) -> tuple[Config, Tree]:
    """Return the same, and the tree that says where each of its values was written; errors as ``read_config``."""
    path = Path(path)
    if not path.parent.exists() and (REPOSITORY / path).parent.exists():  # in a folder that is not the project's
        path = REPOSITORY / path
    return _configure(read_tree(path), str(path), overrides)


def from_dict(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration of plain data of ``origin``, as of ``to_dict``, after overrides; errors as above."""
    return _configure(with_places(content, origin), origin, overrides)[0]


def from_checkpoint(content: dict[str, Any], origin: str, overrides: list[str] | None = None) -> Config:
    """Return the configuration in a checkpoint as ``from_dict``; settings of tests that are no more decide nothing."""
    known = {field.name for field in dataclasses.fields(TestSettings)}
    test = {key: value for key, value in content.get("test", {}).items() if key in known}
    return from_dict({**content, "test": test}, origin, overrides)


def read_data(path: str | Path) -> DataSettings:
    """Return the data settings of a data set's file alone, such as ``fss1000.yaml``; errors as ``read_config``."""
    tree = read_tree(Path(path))
    try:
        return convert(DataSettings, plain(tree).get("data"), "data", as_yaml=True)
    except Misfit as misfit:
        raise UserError(f"{place_of(tree, misfit.key) or path}: {misfit}") from None


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
    """Return the typed and checked configuration of a tree after overrides, and the tree that these make of it."""
    tree = completed(tree, overrides or [])
    try:
        config = _typed(plain(tree), origin, overrides or [])
        return checked(config, keys_written_in(tree, origin)), tree
    except Misfit as misfit:
        raise UserError(f"{place_of(tree, misfit.key) or origin}: {misfit}") from None


def _typed(content: dict[str, Any], origin: str, overrides: list[str]) -> Config:
    """Return the typed configuration of plain data.

    Misfit: a key is unknown or missing, or a value has a wrong type.
    """
    model = content.get("model")
    if isinstance(model, dict):
        settings = _settings(model.get(MODEL_NAME))
        section = {key: value for key, value in model.items() if key != MODEL_NAME}
        content["model"] = convert(settings, section, "model", as_yaml=True)
    for key in ("path", "given"):
        if key in content:
            raise Misfit(key, f"unknown key '{key}'")
    config = convert(Config, {**content, "path": origin, "given": overrides}, "", as_yaml=True)
    if config.run.name is not None:
        return config
    return dataclasses.replace(config, run=dataclasses.replace(config.run, name=Path(origin).stem))


def _settings(name: Any) -> type:
    """Return the settings class of the model of a name; Misfit: there is none."""
    known = every_model()
    if str(name) not in known:
        raise Misfit("model.name", f"model.name = {name!r} is not a model{nearest(str(name), known)}")
    return known[str(name)].Settings
