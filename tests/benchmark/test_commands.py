"""Every command of ``python -m benchmark``, run as a user does, at sizes of seconds."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmark.__main__ import command
from tests import spawned
from util import cli

SMALL = ("--device", "cpu", "--threads", "1", "--repeats", "1")
NETWORK = ("--backbone", "resnet10", "--size", "65")
STATED = {"machine", "device", "threads", "load", "torch", "python", "date"}


def run(tmp_path: Path, *words: str) -> tuple[str, list[dict]]:
    """Return what a command prints and the rows of its JSON."""
    path = tmp_path / "out.json"
    done = spawned.run("-m", "benchmark", *words, *SMALL, "--json", path)
    content = json.loads(path.read_text())
    assert content["command"] == words[0] and content["conditions"].keys() >= STATED
    return done.stdout, content["rows"]


def test_speed(tmp_path: Path) -> None:
    printed, rows = run(tmp_path, "speed", "--models", "symnet,ssp", "--shot", "1,2", *NETWORK)
    cases = [(r["model"], r["shots"], r["stage"]) for r in rows]
    assert cases == [
        ("symnet", 1, "evaluation"),
        ("symnet", 2, "evaluation"),
        ("symnet", 1, "training"),
        ("ssp", 1, "evaluation"),
        ("ssp", 2, "evaluation"),
    ]
    for row in rows:
        assert row["ours_units"] == pytest.approx(row["ours_seconds"] / row["unit_seconds"])
        assert row["ours_over_naive"] == pytest.approx(row["ours_seconds"] / row["naive_seconds"])
    assert "| symnet resnet10, 65 px, 1-shot training, batch 4 |" in printed


def test_memory(tmp_path: Path) -> None:
    printed, rows = run(tmp_path, "memory", "--models", "symnet", "--stages", "training", *NETWORK)
    (row,) = rows
    assert "1-shot training, batch 4" in printed
    assert all(0 <= row[f"{way}_mib"] < row[f"{way}_peak_mib"] for way in ("ours", "naive"))


def test_loader(tmp_path: Path) -> None:
    few = ("--photos", "45", "--episodes", "2", "--size", "65")
    printed, rows = run(tmp_path, "loader", "--shot", "1,2", *few)
    assert [r["shots"] for r in rows] == [1, 2] and "drawn photos of" in printed
    assert all(r[key] > 0 for r in rows for key in r if key.endswith("second"))


def test_scaling(tmp_path: Path) -> None:
    axes = ("--sizes", "33,65", "--shot", "1,2", "--batches", "1,2", "--processes", "2", "--episodes", "2")
    printed, rows = run(tmp_path, "scaling", *axes, *NETWORK)
    along = {axis: [r for r in rows if r["axis"] == axis] for axis in ("size", "shots", "batch", "processes")}
    assert {axis: [r["at"] for r in found] for axis, found in along.items()} == {
        "size": [33, 65],
        "shots": [1, 2],
        "batch": [1, 2],
        "processes": [2],
    }
    one, two = along["shots"]
    assert two["seconds_per_added_shot"] == pytest.approx(two["seconds"] - one["seconds"])
    assert [r["at"] for r in rows if r["axis"] == "episodes"] == [1, 2]
    assert "against size" in printed and "peak MiB" in printed


def test_profile(tmp_path: Path) -> None:
    printed, rows = run(tmp_path, "profile", *NETWORK)
    parts = {r["part"]: r["share"] for r in rows if "part" in r}
    assert {"encoder", "prior", "decoder"} <= parts.keys() and sum(parts.values()) == pytest.approx(1)
    assert any("conv" in r["operation"] for r in rows if "operation" in r)
    assert "| encoder " in printed


def test_switches(tmp_path: Path) -> None:
    printed, rows = run(tmp_path, "switches", *NETWORK)
    published, *others = rows
    assert published["network"] == "published" and published["evaluation_beside_published"] == 1
    assert {r["network"] for r in others} >= {"likelihood", "match", "4D head"}
    more = {r["network"]: r["parameters"] - published["parameters"] for r in others}
    assert more["likelihood"] == 0 < more["4D head"] < more["match"]
    assert more["likelihood, match, 4D head"] == more["match"] + more["4D head"]
    assert "| likelihood, match, 4D head |" in printed


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("speed", "--models", "symet"), "did you mean 'symnet'?"),
        (("memory", "--models", "dcama", "--size", "65"), "the nearest are 64 and 96"),
        (("scaling", "--sizes", "64"), "the nearest are 57 and 65"),
        (("speed", "--stages", "train"), "did you mean 'training'?"),
        (("loader", "--shot", "0"), "not a number of at least 1"),
    ],
)
def test_mistakes_are_a_line(words: tuple[str, ...], says: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    with pytest.raises(SystemExit) as left:
        cli.main(command)
    said = capsys.readouterr().err
    assert left.value.code == 2 and says in said and len(said.splitlines()) == 1
