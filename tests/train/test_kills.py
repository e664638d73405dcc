"""A training that is killed at six moments ends with the weights and the losses of an uninterrupted one."""

import importlib
import itertools
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.helpers import spawned
from tests.helpers.read import json_of
from util.run.folder import BEST, LAST, METRICS, StageFolder
from util.weights import checkpoint

pytestmark = [pytest.mark.process, pytest.mark.train]

STAGE = {"epochs": 2, "epoch_length": 16, "validate_every": 1 / 4, "validate_episodes": 1, "ema_decay": 0.9}
STEP = "util.loop.train.optimiser_step"
KILLS = [  # the call that is not begun: function, word of its arguments, number; the steps that a checkpoint holds then
    (STEP, "", 1, None),
    ("os.replace", BEST, 1, 1),
    (STEP, "", 2, 2),
    ("util.train.stages.score", "", 2, 4),
    ("os.replace", f"{LAST}'", 2, 4),  # between the two renames of a save
    ("os.replace", METRICS, 4, 5),  # each validation has one before it and one after
]


def kill_before(function: str, word: str, number: int) -> None:
    """Let this process be killed in place of the call of a function, of those with a word in their arguments."""
    place, _, name = function.rpartition(".")
    module = importlib.import_module(place)
    call, numbers = getattr(module, name), itertools.count(1)

    def counted(*given: Any, **options: Any) -> Any:
        if word in str(given) and next(numbers) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given, **options)

    setattr(module, name, counted)


def check_equal(path: Path, expected: Path) -> None:
    """Compare the weights and the history of two checkpoints."""
    content, expected_content = checkpoint.read(path).entries, checkpoint.read(expected).entries
    for name, tensor in expected_content["weights"].items():
        assert torch.equal(content["weights"][name], tensor), name
    assert content["progress"]["history"] == expected_content["progress"]["history"]


def test_kills_amid_each_part_of_a_step_change_no_loss_and_no_weight(mini_yaml, tmp_path: Path) -> None:
    path = mini_yaml("ssp", model={"encoder": {"weights": None}}, meta_stage=STAGE)
    folder = tmp_path / "runs/tiny/meta"
    spawned.run("train.py", path)
    unbroken = folder.rename(tmp_path / "unbroken")
    for *moment, steps in KILLS:
        options = ["--resume"] if StageFolder(folder).begun else []
        spawned.run("train.py", path, *options, before=partial(kill_before, *moment), check=-signal.SIGKILL)
        stage = StageFolder(folder)
        newest = stage.newest().entries["progress"]["step"] if stage.begun else None
        assert newest == steps, moment
    assert "--resume" in spawned.run("train.py", path, check=2).stderr
    (folder / LAST).write_bytes((folder / LAST).read_bytes()[:999])
    assert "continuing from the one before" in spawned.run("train.py", path, "--resume").stdout
    check_equal(folder / LAST, unbroken / LAST)
    check_equal(folder / BEST, unbroken / BEST)
    assert json_of(folder / METRICS)["finished"]
