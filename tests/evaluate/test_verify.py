"""``report verify``: a result against its files, data and weights; ``report rescore``: weights by many protocols."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.evaluate.quick import FEW, PROTOTYPE, SYMNET, new_checkpoint, quick_config
from util.checkpoints import checkpoint
from util.evaluate.jobs import Request
from util.evaluate.testing import test as score
from util.evaluate.verify import AGREES, DIFFERS, verify
from util.report.schema import MANIFEST, RESULT
from util.report.table import protocol_table, title
from util.run.folders import run_folder

pytestmark = pytest.mark.train


@pytest.fixture
def result(mini_yaml, tmp_path: Path) -> Path:
    """Return the folder of a new result."""
    score(quick_config(mini_yaml, SYMNET))
    (found,) = (tmp_path / "runs").rglob(RESULT)
    return found.parent


def outcomes(folder: Path) -> dict[str, str]:
    (found,) = verify([folder])
    return {subject: outcome for subject, (outcome, _) in found.checks.items()}


def test_a_result_can_be_trusted_as_it_was_written(result: Path) -> None:
    assert set(outcomes(result).values()) == {AGREES} and len(outcomes(result)) == 5
    (found,) = verify([result])
    assert found.verdict.startswith("can be trusted; not the protocol's number (quick look, ")


def test_other_episodes_are_found(result: Path) -> None:
    file = result / MANIFEST
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    rows[3]["query"] = rows[4]["query"]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = outcomes(result)
    assert found["episodes"] == DIFFERS and found["weights"] == AGREES


def test_fewer_episodes_and_edited_scores_are_found(result: Path) -> None:
    file = result / MANIFEST
    file.write_text("".join(line + "\n" for line in file.read_text().splitlines()[:-1]))
    found = outcomes(result)
    assert found["episodes"] == found["scores"] == DIFFERS
    file.unlink()
    assert outcomes(result)["episodes"] == DIFFERS


@pytest.mark.parametrize(("key", "subject"), [("list", "list"), ("weights", "weights"), ("training", "weights")])
def test_another_list_or_other_weights_are_found(result: Path, key: str, subject: str) -> None:
    content = json.loads((result / RESULT).read_text())
    content[key] = [{}] if key == "training" else "0" * 64
    (result / RESULT).write_text(json.dumps(content))
    (found,) = verify([result])
    assert outcomes(result)[subject] == DIFFERS and not found.agrees and "not to be trusted" in found.text()


@pytest.mark.parametrize("of", ["mean", "class"])
def test_edited_scores_are_found(result: Path, of: str) -> None:
    content = json.loads((result / RESULT).read_text())
    if of == "mean":
        content["mean"]["final"]["miou"] += 1
    else:
        first = content["per_seed"][0]["all_foreground"]["per_class"]
        first[next(iter(first))] += 1
    (result / RESULT).write_text(json.dumps(content))
    assert outcomes(result)["scores"] == DIFFERS


def test_presence_scores_are_counted(mini_yaml, tmp_path: Path) -> None:
    score(quick_config(mini_yaml, SYMNET), Request(protocols=("presence",)))
    (found,) = (tmp_path / "runs").rglob(RESULT)
    assert outcomes(found.parent)["scores"] == AGREES
    content = json.loads(found.read_text())
    content["per_seed"][0]["final"]["presence_accuracy"] = 97.0
    found.write_text(json.dumps(content))
    assert outcomes(found.parent)["scores"] == DIFFERS


def test_all_protocols_of_one_class_are_scored_together(mini_yaml) -> None:
    results = score(quick_config(mini_yaml, PROTOTYPE, *FEW), Request(protocols=("all",)))
    names = [result["protocol"] for result in results]
    assert {"symnet", "bam", "hsnet"} <= set(names) and not {"2way", "presence"} & set(names)
    assert "mIoU - first" in protocol_table(results)


def test_weights_of_another_training_are_marked(mini_yaml, tmp_path: Path) -> None:
    """A short training of the run's own folder does not pass for the config's."""
    config = quick_config(mini_yaml, SYMNET)
    run = run_folder(config, "meta")
    run.mkdir(parents=True)
    new_checkpoint(config, run / "best.pth")
    stored = checkpoint.read(run / "best.pth")
    stored["config"]["meta_stage"]["epochs"] += 1
    checkpoint.save(run / "best.pth", stored)
    (result,) = score(quick_config(mini_yaml, SYMNET, "test.checkpoint=best"))
    assert "meta_stage.epochs" in result["trained_otherwise"][0] and "not finished" in result["trained_otherwise"][1]
    (found,) = verify([tmp_path / "runs"])
    assert "TRAINED WITH OTHER SETTINGS (meta_stage.epochs" in title(result)
    assert "trained with meta_stage.epochs" in found.verdict
