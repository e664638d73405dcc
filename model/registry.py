"""Models by the name their config gives: any module below ``model/`` that decorates a class with ``register``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

import model
from model.common.published import Layout
from model.contract import FewShotModel

_MODELS: dict[str, type[FewShotModel]] = {}


def register(name: str) -> Callable[[type[FewShotModel]], type[FewShotModel]]:
    """Return a class decorator that makes a model available as ``model.name: <name>``."""

    def add(cls: type[FewShotModel]) -> type[FewShotModel]:
        _MODELS[name] = cls
        return cls

    return add


def class_of(settings: object) -> type[FewShotModel]:
    """Return the model class that settings of this type belong to."""
    return next(cls for cls in models().values() if cls.Settings is type(settings))


def models() -> dict[str, type[FewShotModel]]:
    """Return every registered model class by name, importing all modules below ``model/`` on the way."""
    for module in pkgutil.walk_packages(model.__path__, "model."):
        importlib.import_module(module.name)
    return dict(_MODELS)


def current_section(section: dict[str, Any]) -> dict[str, Any]:
    """Return the ``model`` section of a config, checkpoint or result in today's form, as plain data.

    Older sections may hold settings that the model has handed over to its ``extension``. They are dropped where they
    are the extension's defaults; otherwise the section becomes the extension's.
    """
    name = section.get("name")
    cls = models().get(name) if isinstance(name, str) else None
    if cls is None or cls.extension is None:
        return section
    own = {f.name for f in fields(cls.Settings)}
    defaults = {k: v for k, v in _defaults(models()[cls.extension].Settings).items() if k not in own}
    if all(_agrees(section[key], default) for key, default in defaults.items() if key in section):
        return {key: value for key, value in section.items() if key not in defaults}
    return {**section, "name": cls.extension}


def related(one: str, other: str) -> bool:
    """Return whether two names are of one model, or of a model and one that extends it: their tensors may fit."""
    known = models()
    if one not in known or other not in known:
        return one == other
    return issubclass(known[one], known[other]) or issubclass(known[other], known[one])


def _defaults(settings: type) -> dict[str, Any]:
    """Return the default of every setting that has one, sections as dictionaries."""
    made = {f.name: f.default_factory() if f.default is MISSING else f.default for f in fields(settings)}
    return {name: asdict(value) if is_dataclass(value) else value for name, value in made.items()}


def _agrees(given: Any, default: Any) -> bool:
    """Return whether a setting is its default; keys that a section leaves out are."""
    if isinstance(given, dict) and isinstance(default, dict):
        return all(key in default and _agrees(value, default[key]) for key, value in given.items())
    return given == default


def published_layouts() -> list[Layout]:
    """Return the tensor-name layouts of all methods' published checkpoints."""
    return list(dict.fromkeys(cls.published for cls in models().values() if cls.published is not None))
