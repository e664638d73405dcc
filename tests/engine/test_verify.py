"""``report verify``: a result against its files, data and weights; ``report rescore``: weights by many protocols."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.engine.quick import SYMNET, new_checkpoint, quick_config
from util.engine.rescore import rescore
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
    assert set(outcomes(result).values()) == {AGREES} and len(outcomes(result)) == 6
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
