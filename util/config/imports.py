"""Modules of others that a config names under ``imports``: they register methods, encoders, metrics and optimisers.

Only a config that a command names imports them. A checkpoint and a result hold their names as text.
"""

import argparse
import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from model.registry import models
from util.config.tree import OVERRIDE, Leaf, Tree
from util.files.errors import UserError

KEY = "imports"  # of a config
PACKAGE = "symnet"  # the name of this project where it is installed
HOUSES = ("annotations", "model", "photos", "util")


def with_imports(tree: Tree) -> Tree:
    """Import what a config names; return it with whole paths of files, which are relative to the file that names them.

    UserError: a module is missing, or raises an error.
    """
    leaf = tree.get(KEY)
    if not isinstance(leaf, Leaf) or not _is_list_of_text(leaf.value):
        return tree  # nothing, or of another type, which is refused like that of any other key
    is_override = leaf.where.startswith(OVERRIDE)
    folder = Path() if is_override else Path(leaf.where.rpartition(":")[0]).parent
    return {**tree, KEY: Leaf(import_named(leaf.value, folder, f"{leaf.where}: {KEY}"), leaf.where)}


def _is_list_of_text(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def import_named(names: Sequence[str], folder: Path, place: str) -> list[str]:
    """Import modules, or files (``.py``); return their names, of what lies in a folder of configs the whole path.

    Args:
        names: of the modules or files.
        folder: that files are relative to; modules are looked for there and in the working folder first.
        place: where they are named, for messages.

    Raises:
        UserError: a module is missing, or raises an error.
    """
    models()  # this project's own come first: a name that one of them has is taken
    _answer_as_package()
    whole = [_whole_name(name, folder) for name in names]
    for name in whole:
        try:
            _import_one(name)
        except (Exception, SystemExit) as error:  # the code of others may raise anything
            raise UserError(f"{place}: {name} cannot be imported: {_in_words(error)}") from None
    return whole


def beside(names: Sequence[str], folder: Path) -> list[str]:
    """Return the names of imports as a config in a folder keeps them: files relative to it.

    That is where both lie below the working folder, so that they may be moved together; other names stay.
    """
    here = Path().resolve()
    if not folder.resolve().is_relative_to(here):
        return [*names]
    return [os.path.relpath(name, folder) if Path(name).is_relative_to(here) else name for name in names]


def add_import(out: argparse.ArgumentParser) -> None:
    """Add the option of modules that a command without a config imports, as ``imports`` of a config does."""
    text = "a module, or a .py file, that registers a method or metric of your own; may be repeated"
    out.add_argument("--import", action=_Import, default=[], metavar="MODULE", help=text)


class _Import(argparse.Action):
    """The option that imports a module at once."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, value: Any, *_: object) -> None:
        import_named([value], Path(), "--import")


def _whole_name(name: str, folder: Path) -> str:
    """Return the whole path of a file, also of one that is named as a module; else the module's name as it is."""
    if name.endswith(".py"):
        return str((folder / name).resolve())
    parts = Path(*name.split("."))
    for place in (folder, Path()):
        for file in (place / parts.with_suffix(".py"), place / parts / "__init__.py"):
            if file.is_file():
                return str(file.resolve())
    return name


def _import_one(name: str) -> None:
    """Import a module, or a file as the module that it is: of its package, or of its own name."""
    if not name.endswith(".py"):
        importlib.import_module(name)
        return
    path = Path(name)
    if not path.is_file():
        raise FileNotFoundError("no such file; name it by --set imports=[FILE]")
    if any(_is_of(module, path) for module in [*sys.modules.values()]):
        return
    root, module = _module_of(path)
    if str(root) not in sys.path:
        sys.path.append(str(root))  # processes that this one starts find it there too
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin or Path(spec.origin).resolve() != path:
        other = "" if spec is None else f" ({spec.origin})"
        raise ImportError(f"another module is called {module}{other}; rename the file")
    importlib.import_module(module)


def _module_of(path: Path) -> tuple[Path, str]:
    """Return the folder that a file is imported from, and its name there: with those of the packages around it."""
    root = path.parent
    names = [] if path.stem == "__init__" else [path.stem]
    while (root / "__init__.py").is_file():
        names.insert(0, root.name)
        root = root.parent
    return root, ".".join(names)


def _is_of(module: object, path: Path) -> bool:
    """Return whether a module is loaded from a file."""
    file = getattr(module, "__file__", None)
    return isinstance(file, str) and Path(file).name == path.name and Path(file).resolve() == path


def _in_words(error: BaseException) -> str:
    """Return an error of an import with its place, and what to write in an installed package."""
    lines = traceback.extract_tb(error.__traceback__)
    own = [line for line in lines if line.filename != __file__ and "importlib" not in line.filename]
    place = f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""
    hint = ""
    if isinstance(error, ModuleNotFoundError) and str(error.name).partition(".")[0] in HOUSES:
        hint = f"; write {PACKAGE}.{error.name}"
    return f"{type(error).__name__}: {error}{place}{hint}"


def _answer_as_package() -> None:
    """Let ``symnet.model`` and so on be the modules that run here, where a clone runs, whose names are without it."""
    runs_as_package = __name__.startswith(f"{PACKAGE}.")
    if not runs_as_package and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds the modules of this process by their names in the installed package."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module is; None if it is of another package."""
        if name == PACKAGE:
            return ModuleSpec(name, _Loader(), is_package=True)
        house = name.removeprefix(f"{PACKAGE}.").partition(".")[0]
        return ModuleSpec(name, _Loader()) if name.startswith(f"{PACKAGE}.") and house in HOUSES else None


class _Loader(Loader):
    """Loads such a module: the one of the name without the package."""

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of this process in the place of an empty one."""
        if module.__name__ != PACKAGE:
            sys.modules[module.__name__] = importlib.import_module(module.__name__.removeprefix(f"{PACKAGE}."))
