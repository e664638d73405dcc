"""A short YAML text may not stand for many values, whoever reads it."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from annotations.yolo import read_data_file
from photos.calibration import _read as read_calibration
from tests.helpers.paths import REPOSITORY
from util.config.command_line import source_of
from util.config.read import read_config
from util.config.tree import override_tree
from util.files import yaml_text
from util.files.errors import UserError
from util.files.yaml_text import read_yaml

ALIASES = "[&a [x, x, x, x, x, x, x, x], &b [*a, *a, *a, *a], [*b, *b, *b, *b]]"  # 185 values


def read_experiment(path: Path) -> None:
    read_config(source_of(str(path)))


def set_value(path: Path) -> None:
    key, _, value = path.read_text().partition(": ")
    override_tree(f"{key}={value}")


READERS = [
    ("names: {0: %s}", read_data_file),
    ("run: {name: %s}", read_experiment),
    ("data: {folds: %s}", read_experiment),
    ("base: %s", read_experiment),
    ("run.name: %s", set_value),
    ("models: %s", read_calibration),
]


@pytest.mark.parametrize(("text", "read"), READERS)
def test_aliases_that_stand_for_many_values_are_one_line(
    text: str, read: Callable[[Path], object], tmp_path: Path, monkeypatch
) -> None:
    path = tmp_path / "data.yaml"
    path.write_text(text % ALIASES)
    monkeypatch.setattr(yaml_text, "MAX_EXPANDED", 20)
    with pytest.raises(UserError, match=r"aliases stand for more than \d+ values") as caught:
        read(path)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("&a [*a]", "contains itself"),
        (f"[{'9' * 101}]", "more than 100 digits"),
        ("[" * 200 + "]" * 200 + "]", "line 1"),
        ("!!python/name:os.system x", "python/name"),
        (f"[{'x, ' * 400}]", "more than 1000 characters"),
    ],
)
def test_a_text_that_is_no_plain_data_is_refused(text: str, reason: str, monkeypatch) -> None:
    monkeypatch.setattr(yaml_text, "MAX_TEXT", 1000)
    with pytest.raises(ValueError, match=reason):
        read_yaml(text)


def test_some_aliases_are_read() -> None:
    assert read_yaml("a: &a [1, 0x10]\nb: *a\nc: {d: *a}\ne: '9'") == {
        "a": [1, 16],
        "b": [1, 16],
        "c": {"d": [1, 16]},
        "e": "9",
    }
    assert read_yaml("") is None


def test_one_function_reads_yaml() -> None:
    files = [path for room in ("annotations", "model", "photos", "util") for path in (REPOSITORY / room).rglob("*.py")]
    reads = [path for path in files if re.search(r"yaml\.(\w*load|compose|parse|scan)\b", path.read_text())]
    assert reads == [REPOSITORY / "util/files/yaml_text.py"]
