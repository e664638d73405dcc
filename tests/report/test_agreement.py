"""Tests of edited results: scores that cannot be, or are not those of the seeds or of the episodes, are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.report.conftest import counts
from util.errors import UserError
from util.report.compare import compare
from util.report.schema import read_result


def _edited(folder: Path, change: Any) -> Path:
    path = folder / "result.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    return path


def test_a_result_that_agrees_with_its_episodes_is_read(leave) -> None:
    folder = leave("a", counts(1, 30, 0.5) + [{**e, "seed": 3} for e in counts(2, 30, 0.6)])
    assert read_result(folder / "result.json")["seeds"] == [0, 3]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda c: c["mean"]["final"].update(miou=99.0), r"mean.final.miou is 99.0000, that of its seeds is"),
        (lambda c: c["deviation"]["final"].update(miou=9.0), r"deviation.final.miou is 9.0000"),
        (lambda c: c["mean"].pop("meta"), "'mean' and 'per_seed' are of different outputs"),
        (lambda c: c["mean"]["final"].pop("fb_iou"), "different scores"),
        (lambda c: c["per_seed"][0]["final"].update(miou=250.0), "has the score 250, which is not between 0 and 100"),
        (lambda c: c["per_seed"][0]["final"].update(miou=float("nan")), "NaN is no number"),
        (lambda c: c["per_seed"][0]["final"].update(miou=50.0), "the mean of its classes is"),
    ],
)
def test_scores_that_do_not_agree_are_refused(leave, change: Any, reason: str) -> None:
    path = _edited(leave("a", counts(1, 30, 0.5)), change)
    with pytest.raises(UserError, match=rf"{path}: .*{reason}"):
        read_result(path)


def test_a_result_edited_throughout_is_not_that_of_its_episodes(leave) -> None:
    def raise_all(content: dict[str, Any]) -> None:
        scores = content["per_seed"][0]["final"]
        scores.update(miou=99.0, per_class=dict.fromkeys(scores["per_class"], 99.0))
        content["mean"]["final"]["miou"] = 99.0

    path = _edited(leave("a", counts(1, 30, 0.5)), raise_all)
    with pytest.raises(UserError, match=r"per_seed\[0\].final.miou is 99.0000, that of episodes.jsonl is"):
        read_result(path)


def test_edited_episodes_are_not_compared(leave) -> None:
    a, b = (leave(name, counts(seed, 30, 0.5)) for seed, name in enumerate("ab"))
    lines = (b / "episodes.jsonl").read_text().splitlines()
    row = json.loads(lines[1])
    row["outputs"]["final"][0] = row["outputs"]["final"][1]
    (b / "episodes.jsonl").write_text("\n".join([lines[0], json.dumps(row), *lines[2:]]))
    with pytest.raises(UserError, match=r"final.miou is .*, that of episodes.jsonl is"):
        compare(a, b)


def test_a_different_scoring_is_said_first_and_there_is_no_verdict(leave) -> None:
    episodes = counts(1, 30, 0.5)
    text = compare(leave("a", episodes), leave("b", episodes, scored_on="letterbox"))
    assert text.startswith("scored differently") and "noise" not in text
