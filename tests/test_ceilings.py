"""How much there is to know: statements and places that raise of each house, and the files behind ``train.py``.

It takes the place of the tests of a job's memory. A ceiling is what was reached; it falls, and rises for a new method
alone. Imports and docstrings are no statements.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY

STATEMENTS = {  # house -> ceiling, goal
    "annotations": (1350, 1350),
    "datasets": (1341, 1550),
    "model": (5951, 6000),
    "photos": (1813, 1850),
    "tests": (11390, 12000),
    "util": (7300, 7300),
}
RAISES = (383, 430)  # of all houses but the tests
BEHIND_TRAIN = (109, 70)  # files of this project that ``train.py`` imports at its head
HOUSES = tuple(name for name in STATEMENTS if name != "tests")
COUNT_IMPORTED = f"import sys, train; print(sum(m.partition('.')[0] in {HOUSES} for m in sys.modules))"


def nodes_of(house: str) -> Iterator[ast.AST]:
    """Yield every node of a house's code."""
    for path in (REPOSITORY / house).rglob("*.py"):
        yield from ast.walk(ast.parse(path.read_text()))


def is_counted(node: ast.AST) -> bool:
    """Return whether a node is a statement that has to be known."""
    if not isinstance(node, ast.stmt) or isinstance(node, ast.Import | ast.ImportFrom):
        return False
    return not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))


def check(what: str, count: int, ceiling: int, goal: int) -> None:
    assert count <= ceiling, f"{what}: {count}, at most {ceiling}; the goal is {goal}: take an idea away"


@pytest.mark.parametrize("house", STATEMENTS)
def test_a_house_has_no_more_statements(house: str) -> None:
    check(f"statements of {house}", sum(map(is_counted, nodes_of(house))), *STATEMENTS[house])


def test_the_houses_have_no_more_places_that_raise() -> None:
    count = sum(isinstance(node, ast.Raise) for house in HOUSES for node in nodes_of(house))
    check("places that raise", count, *RAISES)


def test_no_files_import_each_other_in_a_circle_not_inside_functions_either() -> None:
    files = {}
    for path in REPOSITORY.glob("[!.]*/**/*.py"):
        parts = path.relative_to(REPOSITORY).with_suffix("").parts
        if parts[0] in HOUSES and path.name != "__init__.py":
            files[".".join(parts)] = path
    after = {name: {*imported_of(path)} & files.keys() - {name} for name, path in files.items()}
    TopologicalSorter(after).prepare()  # raises CycleError, which names the circle


def imported_of(path: Path) -> Iterator[str]:
    """Yield the modules, and names of modules, that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.process
def test_a_training_has_no_more_files_behind_it() -> None:
    command = [sys.executable, "-c", COUNT_IMPORTED]
    printed = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    check("files behind train.py", int(printed), *BEHIND_TRAIN)
