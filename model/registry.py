"""Models by the name their config gives: any module of this package that decorates a class with ``register``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

import model
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
    """Return every registered model class by name, importing the modules of this package on the way."""
    for module in pkgutil.iter_modules(model.__path__):
        importlib.import_module(f"model.{module.name}")
    return dict(_MODELS)
