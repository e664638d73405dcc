"""Methods by ``model.name``: every class in a module below ``model/`` that ``register`` decorates."""

import functools
import importlib
import pkgutil
from collections.abc import Iterable

import model
from model import contract
from model.contract import FewShotMethod, ModelSettings
from model.published import Layout


def class_of(settings: ModelSettings) -> type[FewShotMethod]:
    """Return the method's class that settings name."""
    return methods()[settings.name]


def described(settings: ModelSettings) -> str:
    """Return the line of a log that says which method runs: title, name and class."""
    cls = class_of(settings)
    return f"method: {cls.title}, model.name {settings.name}, class {cls.__name__} of {cls.__module__}"


def methods() -> dict[str, type[FewShotMethod]]:
    """Return every registered method's class by name, after importing all modules of methods below ``model/``."""
    _import_all(tuple(model.__path__))
    return contract.METHODS


@functools.cache
def _import_all(folders: tuple[str, ...]) -> None:
    """Import the modules below ``model/`` once for these folders of the package, but the encoders', which load timm."""
    for module in pkgutil.walk_packages(folders, f"{model.__name__}."):
        if not module.name.startswith(f"{model.__name__}.encoders."):
            importlib.import_module(module.name)


def related(first: str, second: str) -> bool:
    """Return whether two names mean the same method, or a method and its subclass, so that weights may fit both."""
    known = methods()
    if first not in known or second not in known:
        return first == second
    return issubclass(known[first], known[second]) or issubclass(known[second], known[first])


def published_layout(names: Iterable[str]) -> Layout | None:
    """Return the layout of the authors' checkpoint that has these tensor names; None for any other."""
    known = [cls.published for cls in methods().values() if cls.published is not None]
    return next((layout for layout in known if layout.matches(names)), None)
