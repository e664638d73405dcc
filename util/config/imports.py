"""Modules of others that a config names under ``imports``: they register methods, encoders, metrics and optimisers.

Only a config that a command names imports them. A checkpoint and a result hold their names as text.
"""

import importlib
import sys
from collections.abc import Sequence
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from itertools import takewhile
from pathlib import Path
from types import ModuleType

from model.registry import methods
from util.config import registry  # noqa: F401  that all kinds are there
from util.config.place import IMPORTS, found_import
from util.config.tree import OVERRIDE, Leaf, Tree
from util.files.errors import call_foreign

PACKAGE = "symnet"  # the name of this project where it is installed


def with_imports(tree: Tree) -> Tree:
    """Import what a config names; return it with whole paths of files, which are relative to the file that names them.

    UserError: a module is missing, or raises an error.
    """
    leaf = tree.get(IMPORTS)
    if leaf == {}:  # the key alone
        return {key: value for key, value in tree.items() if key != IMPORTS}
    if not isinstance(leaf, Leaf) or not isinstance(leaf.value, list):
        return tree  # nothing, or of another type, which is refused like that of any other key
    folder = Path() if leaf.where.startswith(OVERRIDE) else Path(leaf.where.rpartition(":")[0]).parent
    names = import_named([*map(str, leaf.value)], folder, f"{leaf.where}: {IMPORTS}")
    return {**tree, IMPORTS: Leaf(names, leaf.where)}


def import_by_option(name: str) -> list[str]:
    """Import the module or file that ``--import`` names; raises as ``import_named`` does."""
    return import_named([name], Path(), "--import")


def import_named(names: Sequence[str], folder: Path, place: str) -> list[str]:
    """Import modules, or files (``.py``); return their names, of files the whole path.

    Args:
        names: of the modules or files.
        folder: that files are relative to.
        place: where they are named, for messages.

    Raises:
        UserError: a module is missing, or raises an error.
    """
    methods()  # this project's come first: a name that one of them has is taken
    _answer_as_package()
    whole = [str(found_import(name, folder, place)) if name.endswith(".py") else name for name in names]
    for name in whole:
        load = _import_file if name.endswith(".py") else importlib.import_module
        call_foreign(
            f"{place}: {name}", load, name, failed="cannot be imported", fix="mend it, or install what it imports"
        )
    return whole


def _import_file(name: str) -> None:
    """Import a file as the module that it is: of its package, with those around it, or of none."""
    path = Path(name)
    packages = [*takewhile(lambda folder: (folder / "__init__.py").is_file(), path.parents)]
    root = path.parents[len(packages)]
    place = path.parent if path.stem == "__init__" else path.with_suffix("")
    module_name = ".".join(place.relative_to(root).parts)
    if str(root) not in sys.path:
        sys.path.append(str(root))  # processes that this one starts find it there too
    module = importlib.import_module(module_name)
    if Path(module.__file__ or "").resolve() != path:
        raise ImportError(f"another module is called {module_name} ({module.__file__}); rename the file")


@cache  # once is enough
def _answer_as_package() -> None:
    """Let ``symnet.model`` and so on be the modules that run here, where a clone runs, whose names are without it."""
    if not __name__.startswith(f"{PACKAGE}."):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder, Loader):
    """Finds the modules of this process by their names in the installed package."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Return where a module is; None if it is of another package."""
        package, _, module = name.partition(".")
        is_here = package == PACKAGE and module.partition(".")[0] in ("", "annotations", "model", "photos", "util")
        return ModuleSpec(name, self, is_package=not module) if is_here else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of this process in the place of an empty one."""
        if module.__name__ != PACKAGE:
            sys.modules[module.__name__] = importlib.import_module(module.__name__.removeprefix(f"{PACKAGE}."))
