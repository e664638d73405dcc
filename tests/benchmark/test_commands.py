"""The commands of ``python -m benchmark`` on a small network: cases, numbers, JSON and mistakes."""

import csv
import sys

import pytest

from util.files.errors import UserError
from util.launch.benchmark import command

SMALL = ("--device", "cpu", "--set", "data.size=65")


def _run(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    monkeypatch.setenv("NET", "resnet18")
    return command()


@pytest.mark.benchmark
@pytest.mark.process
@pytest.mark.parametrize(("what", "stage"), [("speed", "training"), ("memory", "evaluation")])
def test_a_case_is_measured(what: str, stage: str, monkeypatch, capsys) -> None:
    words = what, "--models", "ssp", "--stages", stage, "--shot", "2", "--format", "csv"
    assert _run(monkeypatch, *words, *SMALL) == 0
    conditions, *table = capsys.readouterr().out.splitlines()
    for name in ("machine", "device", "torch", "date"):
        assert f"{name} " in conditions
    (figures,) = csv.DictReader(table)
    assert stage in figures.pop("case")
    figures = {name: float(figure) for name, figure in figures.items()}
    if what == "speed":
        assert figures["images"] * figures["s of an image"] == pytest.approx(figures["s"], rel=0.5, abs=0.02)
    else:
        assert 0 <= figures["MiB above network and episode"] < figures["MiB of the process"]


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
