"""Registry of models by ``model.name``: any class in a module below ``model/`` that ``register`` decorates."""

from __future__ import annotations

import functools
import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import model
from model.common.published import Layout
from model.contract import FewShotModel, ModelSettings

_MODELS: dict[str, type[FewShotModel]] = {}


def register(name: str) -> Callable[[type[FewShotModel]], type[FewShotModel]]:
    """Return a class decorator that makes a model available as ``model.name: <name>``."""

    def add(cls: type[FewShotModel]) -> type[FewShotModel]:
        _MODELS[name] = cls
        return cls

    return add


def class_of(settings: object) -> type[FewShotModel]:
    """Return the model class whose settings these are."""
    return next(cls for cls in models().values() if cls.Settings is type(settings))


def models() -> dict[str, type[FewShotModel]]:
    """Return every registered model class by name, after importing all modules below ``model/``."""
    _import_all(tuple(model.__path__))
    return dict(_MODELS)


@functools.cache
def _import_all(folders: tuple[str, ...]) -> None:
    """Import all modules of the package ``model``, once for these folders of it."""
    for module in pkgutil.walk_packages(folders, "model."):
        importlib.import_module(module.name)


def current_section(section: dict[str, Any]) -> dict[str, Any]:
    """Return the ``model`` section of a config, checkpoint or result in today's form, as plain data.

    An older section may hold settings that now belong to the model's ``extension``. If all of them have the extension's
    default values they are dropped; otherwise the section becomes the extension's.
    """
    name = section.get("name")
    cls = models().get(name) if isinstance(name, str) else None
    if cls is None or cls.extension is None:
        return section
    own = {f.name for f in fields(cls.Settings)}
    defaults = {k: v for k, v in _defaults(models()[cls.extension].Settings).items() if k not in own}
    if all(_is_default(section[key], default) for key, default in defaults.items() if key in section):
        return {key: value for key, value in section.items() if key not in defaults}
    return {**section, "name": cls.extension}


def related(one: str, other: str) -> bool:
    """Return whether two names mean the same model, or a model and its subclass, so that weights may fit both."""
    known = models()
    if one not in known or other not in known:
        return one == other
    return issubclass(known[one], known[other]) or issubclass(known[other], known[one])


def _defaults(settings: type[ModelSettings]) -> dict[str, Any]:
    """Return the default of every setting, with sections as dictionaries."""
    return asdict(settings())


def _is_default(given: Any, default: Any) -> bool:
    """Return whether a setting has its default value; keys missing from a section have theirs."""
    if isinstance(given, dict) and isinstance(default, dict):
        return all(key in default and _is_default(value, default[key]) for key, value in given.items())
    return given == default


def published_layouts() -> list[Layout]:
    """Return the tensor-name layouts of all methods' published checkpoints."""
    return list(dict.fromkeys(cls.published for cls in models().values() if cls.published is not None))
