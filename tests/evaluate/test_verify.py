"""``report verify``: a result against its files, data and weights."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.evaluate.quick import FEW, PROTOTYPE, SYMNET, new_checkpoint, quick_config
from util.checkpoints import checkpoint
from util.checkpoints.run import Run
from util.evaluate.testing import test as score
from util.evaluate.verify import AGREES, DIFFERS, checks_of, verify
from util.report.result_table import protocol_table, title
from util.report.schema import MANIFEST, RESULT, read_result

pytestmark = pytest.mark.train


@pytest.fixture
def result(mini_yaml, tmp_path: Path) -> Path:
    """Return the folder of a new result."""
    score(quick_config(mini_yaml, SYMNET, "test.metrics=[boundary_iou,hd95]"))
    (found,) = (tmp_path / "runs").rglob(RESULT)
    return found.parent


def outcomes(folder: Path) -> dict[str, str]:
    path = folder / RESULT
    return {subject: outcome for subject, (outcome, _) in checks_of(path, read_result(path)).items()}


def edit(file: Path, change: Callable[[dict], None], line: int = 0) -> None:
    """Change the JSON of a line of a file."""
    texts = file.read_text().splitlines() if line else [file.read_text()]
    content = json.loads(texts[line])
    change(content)
    file.write_text("\n".join([*texts[:line], json.dumps(content), *texts[line + 1 :]]))


def test_what_was_edited_is_found(result: Path, capsys) -> None:
    assert set(outcomes(result).values()) == {AGREES} and len(outcomes(result)) == 5
    assert verify([result]) == 0
    assert "\nall checks passed; not the protocol's number (quick look, " in capsys.readouterr().out
    episodes, stored = result / MANIFEST, result / RESULT
    whole = episodes.read_text(), stored.read_text()

    def first_class(content: dict) -> None:
        of_class = content["per_seed"][0]["all_foreground"]["per_class"]
        of_class[next(iter(of_class))] += 1

    for file, line, change, subjects in (
        (episodes, 4, lambda e: e.update(query="other"), {"episodes"}),
        (episodes, 4, lambda e: e["outputs"]["final"].__setitem__(0, e["outputs"]["final"][0] + 5), {"scores"}),
        (episodes, 4, lambda e: e["boundary_iou"]["final"].__setitem__(0, 5), {"scores"}),
        (episodes, 4, lambda e: e.update(seed=9), {"episodes", "scores"}),
        (stored, 0, lambda r: r["mean"]["final"].update(miou=99.0), {"scores"}),
        (stored, 0, first_class, {"scores"}),
        (stored, 0, lambda r: r.update(list="0" * 64), {"list"}),
        (stored, 0, lambda r: r.update(weights="0" * 64), {"weights"}),
        (stored, 0, lambda r: r.update(training=[{}]), {"weights"}),
    ):
        edit(file, change, line)
        assert {subject for subject, outcome in outcomes(result).items() if outcome == DIFFERS} == subjects
        episodes.write_text(whole[0]), stored.write_text(whole[1])
    episodes.unlink()
    assert verify([result]) == 1
    assert "verification failed (scores, episodes)" in capsys.readouterr().out


def test_all_protocols_of_one_class_are_scored_together(mini_yaml) -> None:
    results = score(quick_config(mini_yaml, PROTOTYPE, *FEW), protocols=("all",))
    names = [result["protocol"] for result in results]
    assert {"symnet", "bam", "hsnet"} <= set(names) and not {"2way", "presence"} & set(names)
    assert "mIoU - first" in str(protocol_table(results))


def test_weights_of_another_training_are_marked(mini_yaml, capsys) -> None:
    """A short training of the run's own folder does not pass for the config's."""
    config = quick_config(mini_yaml, SYMNET)
    path = new_checkpoint(config, Run(config).folder("meta") / "best.pth")
    stored = checkpoint.read(path)
    stored["config"]["meta_stage"]["epochs"] += 1
    checkpoint.save(path, stored)
    (result,) = score(quick_config(mini_yaml, SYMNET, "test.checkpoint=best"))
    assert "meta_stage.epochs" in result["trained_otherwise"][0] and "not finished" in result["trained_otherwise"][1]
    assert "TRAINED WITH OTHER SETTINGS (meta_stage.epochs" in title(result)
    verify([Run(config).folder("test")])
    assert "trained with other settings" in capsys.readouterr().out
