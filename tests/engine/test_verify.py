"""``report verify``: a result against its files, data and weights; ``report rescore``: weights by many protocols."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.engine.quick import SYMNET, new_checkpoint, quick_config
from util.engine.rescore import rescore
from util.engine.test_jobs import Request
from util.engine.testing import test as score
from util.engine.verify import AGREES, DIFFERS, UNCHECKED, verify
from util.errors import UserError
from util.report.schema import MANIFEST, RESULT

pytestmark = pytest.mark.train


@pytest.fixture
def result(mini_yaml, tmp_path: Path) -> Path:
    """Return the folder of a new result."""
    score(quick_config(mini_yaml, SYMNET))
    (found,) = (tmp_path / "runs").rglob(RESULT)
    return found.parent


@pytest.fixture
def trained_file(mini_yaml, tmp_path: Path) -> Path:
    """Return a checkpoint outside a run folder."""
    return new_checkpoint(quick_config(mini_yaml, SYMNET), tmp_path / "fold0.pth")


def outcomes(folder: Path) -> dict[str, str]:
    (found,) = verify([folder])
    return {check.subject: check.outcome for check in found.checks}


def test_a_result_can_be_trusted_as_it_was_written(result: Path) -> None:
    assert set(outcomes(result).values()) == {AGREES} and len(outcomes(result)) == 7
    (found,) = verify([result])
    assert found.verdict.startswith("can be trusted; not the protocol's number (quick look, ")


def test_other_episodes_are_found(result: Path) -> None:
    file = result / MANIFEST
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["query"] = rows[4]["query"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = outcomes(result)
    assert found["episodes"] == DIFFERS and found["counts"] == found["weights"] == AGREES


def test_fewer_episodes_and_edited_scores_are_found(result: Path) -> None:
    file = result / MANIFEST
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:-1]))
    found = outcomes(result)
    assert found["episodes"] == found["counts"] == DIFFERS and found["scores"] == AGREES
    assert found["draw of the episodes"] == UNCHECKED
    content = json.loads((result / RESULT).read_text())
    content["mean"]["final"]["miou"] += 1
    (result / RESULT).write_text(json.dumps(content))
    assert outcomes(result)["scores"] == DIFFERS
    file.unlink()
    assert outcomes(result)["episodes"] == DIFFERS


@pytest.mark.parametrize(("key", "subject"), [("list", "list"), ("weights", "weights")])
def test_another_list_or_other_weights_are_found(result: Path, key: str, subject: str) -> None:
    content = json.loads((result / RESULT).read_text())
    content[key] = "0" * 64
    (result / RESULT).write_text(json.dumps(content))
    (found,) = verify([result])
    assert outcomes(result)[subject] == DIFFERS and not found.agrees and "not to be trusted" in found.text()


def edit(folder: Path, change: Callable[[dict[str, Any]], None], every: Callable[[dict[str, Any]], None]) -> None:
    """Change a result, and every episode beside it."""
    content = json.loads((folder / RESULT).read_text())
    change(content)
    (folder / RESULT).write_text(json.dumps(content))
    header, *rows = [json.loads(line) for line in (folder / MANIFEST).read_text().splitlines()]
    for row in rows:
        every(row)
    (folder / MANIFEST).write_text("".join(json.dumps(row) + "\n" for row in (header, *rows)))


def nothing(_: dict[str, Any]) -> None:
    """Change nothing."""


def perfect(content: dict[str, Any]) -> None:
    """Make every score of the final output 90 %."""
    for of_seed in content["per_seed"]:
        of_class = dict.fromkeys(of_seed["final"]["per_class"], 90.0)
        of_seed["final"] |= {"miou": 90.0, "fb_iou": 90.0, "per_class": of_class}
    content["mean"]["final"] = {"miou": 90.0, "fb_iou": 90.0}
    content["deviation"]["final"] = {"miou": 0.0, "fb_iou": 0.0}


@pytest.mark.parametrize(
    "every",
    [
        lambda row: row.pop("outputs"),
        lambda row: row["outputs"].pop("final"),
        lambda row: row["outputs"].update(final=row["outputs"]["final"][:2]),
    ],
    ids=["no counts", "no final output", "no background"],
)
def test_scores_without_counts_are_not_trusted(result: Path, every: Callable[[dict[str, Any]], None]) -> None:
    edit(result, perfect, every)
    assert outcomes(result)["counts"] == DIFFERS


def test_scores_of_classes_are_counted(result: Path) -> None:
    content = json.loads((result / RESULT).read_text())
    of_class = content["per_seed"][0]["all_foreground"]["per_class"]
    (a, first), (b, second) = of_class.items()
    of_class |= {a: first - 1, b: second + 1}  # the mean is kept
    (result / RESULT).write_text(json.dumps(content))
    assert outcomes(result)["counts"] == DIFFERS and outcomes(result)["scores"] == AGREES


@pytest.mark.parametrize(
    ("key", "value"),
    [("quick_look", False), ("other_seeds", False), ("dataset", "pascal"), ("fold", 3), ("method", "SSP"), ("size", 9)],
)
def test_statements_that_the_config_contradicts_are_found(result: Path, key: str, value: object) -> None:
    edit(result, lambda content: content.update({key: value}), nothing)
    assert outcomes(result)["statements"] == DIFFERS


def test_presence_scores_are_counted(mini_yaml, tmp_path: Path) -> None:
    score(quick_config(mini_yaml, SYMNET), Request(protocols=("presence",)))
    (found,) = (tmp_path / "runs").rglob(RESULT)
    assert outcomes(found.parent)["presence"] == AGREES

    def better(content: dict[str, Any]) -> None:
        for table in (content["mean"], *content["per_seed"]):
            table["final"]["presence_accuracy"] = 97.0
        content["deviation"]["final"]["presence_accuracy"] = 0.0

    edit(found.parent, better, nothing)
    assert outcomes(found.parent)["presence"] == DIFFERS


def test_an_edited_track_is_found(result: Path) -> None:
    edit(result, lambda content: content["track"].update(encoder_data="ImageNet-1k"), nothing)
    assert outcomes(result)["weights"] == DIFFERS


def test_files_that_are_no_result_are_named_beside_the_others(result: Path) -> None:
    edit(result, lambda content: content.update(protocol="another"), nothing)
    assert outcomes(result)["statements"] == DIFFERS
    other = result.with_name("other")
    other.mkdir()
    (other / RESULT).write_text("{")
    found = {one.path.parent: one for one in verify([result.parent])}
    assert [check.subject for check in found[other].checks] == ["file"] and not found[other].agrees
    assert found[result].name != found[other].name


def test_data_that_are_gone_are_said(result: Path) -> None:
    content = json.loads((result / RESULT).read_text())
    content["config"]["data"]["root"] = "/nowhere"
    (result / RESULT).write_text(json.dumps(content))
    found = outcomes(result)
    assert found["list"] == found["draw of the episodes"] == UNCHECKED and found["weights"] == AGREES
    assert "not checked: list, draw of the episodes" in verify([result])[0].verdict


def test_one_checkpoint_is_scored_by_every_protocol_that_fits(trained_file, monkeypatch) -> None:
    text = rescore(trained_file, None, ["all"], ["test.episodes=2", "test.seeds=[0]", "data.workers=0"])
    names = re.findall(r"^\| (\w+) \(quick look\)", text, re.M)
    assert {"symnet", "bam", "hsnet", "ssp"} <= set(names) and "left out: 2way: another task" in text
    assert re.search(r"^\| symnet .* \+0\.00 \|$", text, re.M) and "encoder's data: none (random values)" in text
    monkeypatch.setattr("util.engine.rescore.test", None)  # nothing is left to score
    assert rescore(trained_file, None, ["all"], ["test.episodes=2", "test.seeds=[0]", "data.workers=0"]) == text
    with pytest.raises(UserError, match="--protocols bm: unknown; did you mean 'bam'"):
        rescore(trained_file, None, ["bm"], [])
