"""Files import each other in no circle, and few stand behind a checkpoint, a method for photos, the loop."""

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY

FOLDERS = ("annotations", "datasets", "model", "photos", "util")


@cache
def modules() -> dict[str, ast.Module]:
    """Return the parsed files of all folders that have code, by the names of their modules."""
    parsed = {}
    for path in (path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*.py")):
        tree = ast.parse(path.read_text())
        if len(tree.body) > 1:  # besides its first sentence
            parsed[module_of(path)] = tree
    return parsed


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")


def imported_by(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Yield the modules, and the names of modules, that statements import."""
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_no_files_import_each_other_in_a_circle_not_inside_functions_either() -> None:
    parsed = modules()
    before = {name: {*imported_by(ast.walk(tree))} & parsed.keys() - {name} for name, tree in parsed.items()}
    TopologicalSorter(before).prepare()  # raises CycleError, which names the circle


@pytest.mark.parametrize(
    ("first", "most"),
    [("util.weights.checkpoint", 30), ("util.engine", 72), ("util.loop.train", 34)],
)
def test_few_files_stand_behind_what_others_begin_with(first: str, most: int) -> None:
    parsed = modules()
    behind = set()
    waiting = {first}
    while waiting:
        name = waiting.pop()
        behind.add(name)
        waiting |= {*imported_by(parsed[name].body)} & parsed.keys() - behind
    assert len(behind) <= most, sorted(behind)
