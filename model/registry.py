"""Models by the name their config gives: any module below ``model/`` that decorates a class with ``register``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

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


def published_layouts() -> list[Layout]:
    """Return the tensor-name layouts of all methods' published checkpoints."""
    return [cls.published for cls in models().values() if cls.published is not None]
