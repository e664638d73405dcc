"""Where a run lies: ``<run>/base``, ``<run>/meta[_5shot]``, ``<run>/test[_5shot]/<protocol>``, and whose a file is.

A run is the folder that it lies in. A config in it states folder and name as they were when it was written: they are
others once the folder has been copied, renamed or moved to another machine.
"""

import os
import re
from pathlib import Path
from typing import Any

from util.config.tree import Leaf, Tree, key_of, merge, nested, value_of
from util.files.errors import UserError

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"  # that a training and a test write into their folders
BEST, LAST, PREVIOUS = "best.pth", "last.pth", "previous.pth"  # the latter is used when the last one cannot be read
RESULT = "result.json"  # of a test
DISCARDED = "discarded.json"  # a result of weights that were replaced
CHECKPOINTS = (LAST, PREVIOUS, BEST)
WRITTEN = (CONFIG, ENVIRONMENT, RESULT, *CHECKPOINTS)
STAGE = re.compile(r"(base|meta|test)(_\d+shot)?")
FOLDER, NAME, BASE_FOLDER = "run.folder", "run.name", "run.base_folder"
INSIDE = (BASE_FOLDER, "test.checkpoint")  # keys whose paths may lead into the run itself
STAGE_FOLDERS = "base, meta or meta_5shot"
NO_NAMES = ("", "..")  # of folders by their paths


def stage_name(stage: str, shots: int) -> str:
    """Return the name of the folder of a stage (base, meta, test) of a run; meta and test have one per shots."""
    return stage if stage == "base" or shots == 1 else f"{stage}_{shots}shot"


def run_of(file: Path) -> Path | None:
    """Return the folder of the run that a file was written in, as it lies today; None: it lies in none.

    A link leads to the run of the file. A file alone, without others of a run beside it, is no part of one.
    """
    stage = _stage_of(file)
    if stage is None:
        return None
    run = stage.parent
    return run.resolve() if run.name in NO_NAMES else run


def folder_and_name(run: Path, stated: str) -> tuple[Path, str]:
    """Return folder and name of a run; a name of several parts, such as ``lr/a``, stays as it was ``stated``."""
    parts = Path(stated).parts
    if parts and run.parts[-len(parts) :] == parts:
        return Path(*run.parts[: -len(parts)]), stated
    return run.parent, run.name


def _stage_of(file: Path) -> Path | None:
    """Return the folder of the stage that a file was written for; None: of none."""
    for path in dict.fromkeys((file, file.resolve())):
        folder = path.parent.resolve() if path.parent.name in NO_NAMES else path.parent
        if not _is_part_of_run(path.name, folder):
            continue
        for place, is_of_test in ((folder, False), (folder.parent, True)):
            found = STAGE.fullmatch(place.name)
            if found and (found[1] == "test") == is_of_test:
                return place
    return None


def _is_part_of_run(name: str, folder: Path) -> bool:
    """Return whether a file of a folder is one that a run writes, beside others of these, or a result."""
    if name == RESULT:
        return True
    return name in WRITTEN and any((folder / other).exists() for other in WRITTEN if other != name)


def placed(tree: Tree, file: Path, overrides: list[str]) -> Tree:
    """Return a config's tree with folder and name of the run that its file lies in, in place of those it states.

    Overrides come later, and win. UserError: the file lies beside weights, but in no folder of a run, so that what it
    states may be of other weights; none of the ``overrides`` says which run is meant.
    """
    stage = _stage_of(file)
    run = run_of(file)
    if stage is not None and run is not None:
        return _moved(tree, run, stage)
    named = {FOLDER, NAME}.intersection(map(key_of, overrides))
    weights = next((name for name in CHECKPOINTS if (file.parent / name).exists()), None)
    if file.name != CONFIG or value_of(tree, NAME) is None or weights is None or named:
        return tree
    base = value_of(tree, BASE_FOLDER)
    if base is not None and Path(base).name == file.absolute().parent.name:  # a shared base stage
        return _with_values(tree, {BASE_FOLDER: file.parent}, file.parent)
    problem = f"lies beside {weights}, but its folder is not named as in a run ({STAGE_FOLDERS})"
    raise UserError(f"{file}: {problem}; rename {file.parent}, or name the run: --set run.folder=.. --set run.name=..")


def _moved(tree: Tree, run: Path, stage: Path) -> Tree:
    """Return the tree of a config whose run lies in a folder; ``stage`` is where it was found."""
    folder = value_of(tree, FOLDER) or "runs"
    stated = str(value_of(tree, NAME) or "")
    before = Path(folder, stated)
    new_folder, name = folder_and_name(run, stated)
    values: dict[str, Any] = {FOLDER: new_folder, NAME: name}
    for key in INSIDE:
        path = value_of(tree, key)
        if not isinstance(path, str) or os.sep not in path:
            continue
        way_in_run = _way(before, path)
        way_beside = _way(folder, path)
        if way_in_run is not None:
            values[key] = run / way_in_run
        elif way_beside is not None and (new_folder / way_beside).exists():  # of another run, which came along
            values[key] = new_folder / way_beside
    if stage.name == "base":
        values[BASE_FOLDER] = None  # it is this one
    return _with_values(tree, values, stage)


def _way(folder: str | Path, path: str) -> Path | None:
    """Return the way from a folder to a path below it; None: it is not below it."""
    way = Path(os.path.relpath(path, folder))
    return None if os.pardir in way.parts else way


def _with_values(tree: Tree, values: dict[str, Any], origin: Path) -> Tree:
    """Return a tree with other values under some keys, which come from a place."""
    for key, value in values.items():
        leaf = Leaf(None if value is None else str(value), str(origin))
        tree = merge(tree, nested(key, leaf))
    return tree
