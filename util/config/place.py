"""Where a run lies: ``<run>/base``, ``<run>/meta[_5shot]``, ``<run>/test[_5shot]/<protocol>``, and whose a file is.

A run is the folder that it lies in. A config in it states folder and name as they were when it was written: they are
others once the folder has been copied, renamed or moved to another machine.
"""

import os
import re
from collections.abc import Sequence
from functools import reduce
from pathlib import Path
from typing import Any

from util.config.tree import Leaf, Tree, merge, nested, value_of
from util.files.errors import UserError

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"  # that a training and a test write into their folders
RESULT = "result.json"  # of a test
DISCARDED = "discarded.json"  # a result of weights that were replaced
WRITTEN = (CONFIG, ENVIRONMENT, RESULT)
WEIGHTS = ".pth"  # ends the names of checkpoints
STAGE = r"(base|meta)(_\d+shot)?"
TEST = r"test(_\d+shot)?"  # its files lie in a folder below it
FOLDER, NAME = "run.folder", "run.name"
RUNS = "runs"  # the folder where none is stated
IMPORTS = "imports"  # key of modules, and of files beside the config
INSIDE = ("run.base_folder", "test.checkpoint")  # keys whose paths may lead into the run itself
FORMER = ("data.decoded_gib",)  # settings that a former version wrote, and that decided nothing


def stage_name(stage: str, shots: int) -> str:
    """Return the name of the folder of a stage (base, meta, test) of a run; meta and test have one per shots."""
    return stage if stage == "base" or shots == 1 else f"{stage}_{shots}shot"


def run_of(file: Path) -> Path | None:
    """Return the folder of the run that a file was written in, as it lies today; None: it lies in none.

    A link leads to the run of the file.
    """
    for path in (file, file.resolve()):
        for folder, pattern in ((path.parent, STAGE), (path.parent.parent, TEST)):
            is_named = folder.parent.name not in ("", "..")
            is_written = path.name in WRITTEN or path.suffix == WEIGHTS
            if is_named and is_written and re.fullmatch(pattern, folder.name):
                return folder.parent
    return None


def folder_and_name(run: Path, stated: str) -> tuple[Path, str]:
    """Return folder and name of a run; a name of several parts, such as ``lr/a``, stays as it was ``stated``."""
    parts = Path(stated).parts
    if parts and run.parts[-len(parts) :] == parts:
        return Path(*run.parts[: -len(parts)]), stated
    return run.parent, run.name


def with_actual_place(tree: Tree, file: Path) -> Tree:
    """Return a config's tree with folder and name of the run that its file lies in, in place of those it states.

    Settings that are gone (``FORMER``) are left out of it.
    """
    run = run_of(file)
    if run is None:
        return tree
    stated = str(value_of(tree, NAME) or "")
    before = Path(str(value_of(tree, FOLDER) or RUNS), stated)
    folder, name = folder_and_name(run, stated)
    values = {FOLDER: folder, NAME: name}
    for key in INSIDE:
        path = Path(str(value_of(tree, key)))
        if path.is_relative_to(before):
            values[key] = run / path.relative_to(before)
    return reduce(
        merge, [nested(key, Leaf(str(value), str(file))) for key, value in values.items()], without_former(tree)
    )


def without_former(content: dict[str, Any]) -> dict[str, Any]:
    """Return the content of a config that a run wrote without ``FORMER`` settings."""
    data = content.get("data")
    if not isinstance(data, dict):
        return content
    return {**content, "data": {key: value for key, value in data.items() if f"data.{key}" not in FORMER}}


def imports_beside(names: Sequence[str], folder: Path) -> list[str]:
    """Return the names of imports as a config in a folder keeps them: files relative to it.

    That is where both lie below the working folder, so that they may be moved together; other names stay.
    """
    here = Path().resolve()
    is_here = folder.resolve().is_relative_to(here)
    return [os.path.relpath(name, folder) if is_here and Path(name).is_relative_to(here) else name for name in names]


def found_import(name: str, folder: Path, place: str) -> Path:
    """Return a file as a folder's config names it or, of a copied run, beside the config or in the working folder.

    UserError: it is at none of these; ``place`` is where it is named.
    """
    path = Path(name)
    below = Path(*[part for part in path.parts if part not in ("..", path.anchor)])
    for found in (folder / path, folder / path.name, below, Path(path.name)):
        if found.is_file():
            return found.resolve()
    raise UserError(
        f"{place}: {name} is neither there, nor beside the config, nor in the working folder",
        fix=f"copy it there, or name its path: --set {IMPORTS}=[PATH], or --import PATH",
    )
