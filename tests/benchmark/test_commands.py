"""The commands of ``python -m benchmark`` on a small network: cases, numbers, JSON and mistakes."""

import json
import sys
from pathlib import Path

import pytest

from util.errors import UserError
from util.launch.benchmark import command

SMALL = ("--device", "cpu", "--threads", "1", "--repeats", "1", "--set", "data.size=65", "--net", "resnet18")


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    return command()


@pytest.mark.benchmark
@pytest.mark.process
def test_one_photo_from_the_command_is_measured(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    assert _run(monkeypatch, "start", "--device", "cpu", "--threads", "1", "--repeats", "1", "--format", "csv") == 0
    case, seconds, processor_seconds = capsys.readouterr().out.splitlines()[-1].rsplit(",", 2)
    assert "one photo, from the command" in case and float(processor_seconds) > 0 and float(seconds) > 0


@pytest.mark.benchmark
@pytest.mark.process
@pytest.mark.parametrize(("what", "stage"), [("speed", "training"), ("memory", "evaluation")])
def test_a_case_is_measured(what: str, stage: str, tmp_path: Path, monkeypatch, capsys) -> None:
    words = what, "--models", "ssp", "--stages", stage, "--shot", "2", "--json", str(file := tmp_path / "out.json")
    assert _run(monkeypatch, *words, *SMALL) == 0
    content = json.loads(file.read_text())
    assert content["command"] == what and content["conditions"].keys() >= {"machine", "device", "torch", "date"}
    (row,) = content["rows"]
    assert f"| {row['case']} " in capsys.readouterr().out and stage in row["case"]
    if what == "speed":
        assert row["units"] * row["unit_seconds"] == pytest.approx(row["seconds"])
    else:
        assert 0 <= row["mib"] < row["peak_mib"]


@pytest.mark.parametrize(
    ("says", "words"),
    {
        "symnet": "--models symet",
        "data.size": "--models dcama --set data.size=65",
        "training": "--stages train",
        "--shot": "--shot 0",
    }.items(),
)
def test_mistakes_are_refused(says: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=says):
        _run(monkeypatch, "speed", *words.split())
