"""Fixtures of the tests of prepare.py: runners of the command, and a project folder."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.helpers.outcome import Outcome, run_script
from tests.helpers.paths import REPOSITORY


def copy_start(root: Path) -> None:
    """Copy what every config starts from into a project's ``config``."""
    (root / "config").mkdir(exist_ok=True)
    shutil.copy(REPOSITORY / "config/default.yaml", root / "config")


@pytest.fixture
def prepare(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs ``prepare.py`` with arguments and returns its exit code and output."""

    def call(*arguments: object) -> Outcome:
        return run_script("prepare.py", arguments, capfd, monkeypatch)

    return call


@pytest.fixture
def made(prepare: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that makes a data set of a recipe from a folder: ``data`` and ``config`` in ``tmp_path``."""
    copy_start(tmp_path)
    monkeypatch.chdir(tmp_path)
    return lambda name, root, *more: prepare(name, "--root", root, "--out", f"{tmp_path}/data", *more)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project folder with the configs that data sets of one's own inherit from; the current folder."""
    root = tmp_path / "project"
    for part in ("model", "encoder"):
        shutil.copytree(REPOSITORY / "config" / part, root / "config" / part)
    copy_start(root)
    monkeypatch.chdir(root)
    return root
