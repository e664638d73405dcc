"""Tests of what a training refuses to continue, and of folders that a run must not overwrite."""

from pathlib import Path
from typing import Any

import pytest
import torch

from util.checkpoints.run import BEST, LAST, PREVIOUS, StageFolder, check_continues
from util.errors import UserError

CONFIG = {"run": {"seed": 1, "folder": "runs"}, "data": {"name": "mini"}, "model": {"name": "symnet", "shots": 1}}
CONFIG |= {"meta_stage": {"log_steps": 20, "optimizers": {"main": {"lr": 0.1}}}, "base_stage": {"epochs": 1}}
PLAN = {"steps_per_epoch": 2, "steps": 8, "batch": 4}
PROGRESS = {"step": 4, "best": 1.0, "best_epoch": 1.0, "minutes": 0.1, "history": [{"step": 2}], "totals": {}}
STATE = {"stage": "meta", "config": CONFIG, "data": "list", "text": None, "photos": "sizes", "schedule": PLAN}


def _saved(**changes: Any) -> dict[str, Any]:
    return {"format": "sym-net/1", **STATE, "progress": PROGRESS, "optimizers": {}, **changes}


def _touch(folder: Path, *names: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).touch()
    return folder


def test_a_folder_with_any_checkpoint_holds_a_run(tmp_path: Path) -> None:
    StageFolder(tmp_path).check_free(resume=False, overwrite=False)
    for name in (BEST, LAST, PREVIOUS):
        folder = _touch(tmp_path / name[:-4], name)
        StageFolder(folder).check_free(resume=False, overwrite=True)
        with pytest.raises(UserError, match=rf"holds a run already \({name}\).*--overwrite"):
            StageFolder(folder).check_free(resume=False, overwrite=False)


def test_a_damaged_or_missing_last_checkpoint_leaves_the_one_before(tmp_path: Path) -> None:
    torch.save(_saved(weights={}), tmp_path / PREVIOUS)
    assert StageFolder(tmp_path).newest()["progress"]["step"] == 4
    (tmp_path / LAST).write_bytes(b"PK\x03\x04 cut")
    assert StageFolder(tmp_path).newest()["progress"]["step"] == 4


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"schedule": {**PLAN, "batch": 5}}, "other epochs, batch"),
        ({"data": "other"}, "another training list"),
        ({"photos": "other"}, "other photos or masks"),
        ({"text": "other"}, "other text vectors"),
        ({"format": "other"}, "holds weights only"),
        ({"config": {**CONFIG, "run": {"seed": 2, "folder": "runs"}}}, "run.seed = 2, now 1.*--allow-changes"),
        ({"config": {**CONFIG, "model": {"name": "symnet", "shots": 5}}}, "model.shots = 5, now 1"),
        ({"config": {**CONFIG, "model": {"name": "symnet", "shots": None}}}, "model.shots = None, now 1"),
        (
            {"config": {**CONFIG, "meta_stage": {"log_steps": 20, "optimizers": {"main": {"lr": 0.2}}}}},
            "meta_stage.optimizers.main.lr = 0.2, now 0.1",
        ),
    ],
)
def test_what_is_not_this_run_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    check_continues(_saved(), STATE, tmp_path / LAST, allow_changes=False)
    with pytest.raises(UserError, match=rf"{tmp_path / LAST}: .*{reason}"):
        check_continues(_saved(**changes), STATE, tmp_path / LAST, allow_changes=False)


def test_settings_that_decide_nothing_or_are_allowed_may_change(tmp_path: Path) -> None:
    elsewhere = {**CONFIG, "run": {"seed": 1, "folder": "other"}, "base_stage": {"epochs": 2}}
    elsewhere["meta_stage"] = {**CONFIG["meta_stage"], "log_steps": 5}
    check_continues(_saved(config=elsewhere), STATE, tmp_path / LAST, allow_changes=False)
    other = _saved(config={**CONFIG, "run": {"seed": 2, "folder": "runs"}})
    check_continues(other, STATE, tmp_path / LAST, allow_changes=True)
    older = {**CONFIG, "run": {"folder": "runs"}}  # written before a setting existed
    check_continues(_saved(config=older), STATE, tmp_path / LAST, allow_changes=False)
