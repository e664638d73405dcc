"""A training that is killed ten times at random moments ends with the losses of an uninterrupted run."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests.helpers import spawned
from util.files import write_atomically
from util.run import checkpoint
from util.run.run import BEST, LAST, METRICS

pytestmark = [pytest.mark.process, pytest.mark.train]

KILLS, MAX_STEPS = 10, 3
LONGEST_WAIT = 0.1  # seconds
STAGE = {"epochs": 2, "epoch_length": 72, "validate_every": 1 / 18, "validate_episodes": 1, "ema_decay": 0.9}


def saves(folder: Path) -> int | None:
    """Return a value that changes with every checkpoint."""
    last = folder / LAST
    return last.stat().st_mtime_ns if last.exists() else None


def train_and_kill(path: Path, folder: Path, moments: random.Random) -> None:
    """Begin a training, or continue it, and kill it amid a start, a step, a checkpoint or a validation."""
    options = ["--resume"] if saves(folder) else []
    training = spawned.start("train.py", path, *options)
    for _ in range(moments.randrange(MAX_STEPS + 1)):
        before = saves(folder)
        spawned.wait_for(lambda before=before: saves(folder) != before, training)
    time.sleep(moments.random() * LONGEST_WAIT)
    training.signal(signal.SIGKILL)
    assert training.code == -signal.SIGKILL


def check_equal(path: Path, expected: Path) -> None:
    """Compare the weights and the history of two checkpoints."""
    content, expected_content = checkpoint.read(path).entries, checkpoint.read(expected).entries
    for name, tensor in expected_content["weights"].items():
        assert torch.equal(content["weights"][name], tensor), name
    assert content["progress"]["history"] == expected_content["progress"]["history"]


def test_ten_kills_at_random_moments_change_no_loss_and_no_weight(mini_yaml, tmp_path: Path) -> None:
    path = mini_yaml("ssp", model={"encoder": {"weights": None}}, meta_stage=STAGE)
    folder = tmp_path / "runs/tiny/meta"
    spawned.run("train.py", path)
    unbroken = folder.rename(tmp_path / "unbroken")
    moments = random.Random(0)
    steps = []
    for _ in range(KILLS):
        train_and_kill(path, folder, moments)
        if saves(folder):
            steps.append(checkpoint.read(folder / LAST).entries["progress"]["step"])
    assert steps == sorted(steps) and len(set(steps)) > KILLS // 2
    assert "--resume" in spawned.run("train.py", path, check=2).stderr
    part = (folder / LAST).read_bytes()[:999]
    (folder / LAST).unlink()  # a kill between two renames leaves both checkpoints as one file
    (folder / LAST).write_bytes(part)
    assert "continuing from the one before" in spawned.run("train.py", path, "--resume").stdout
    check_equal(folder / LAST, unbroken / LAST)
    check_equal(folder / BEST, unbroken / BEST)
    assert json.loads((folder / METRICS).read_text())["finished"]


def test_one_file_under_both_names_is_never_written_in_place(tmp_path: Path) -> None:
    """A kill between the renames of a save leaves last and previous as one file; the next saves must part them."""
    last, previous = tmp_path / LAST, tmp_path / "previous.pth"
    last.write_bytes(b"first")
    os.link(last, previous)
    write_atomically(last, b"second", previous=previous)
    assert (last.read_bytes(), previous.read_bytes()) == (b"second", b"first")
    write_atomically(last, b"third", previous=previous)
    assert (last.read_bytes(), previous.read_bytes()) == (b"third", b"second")
    assert sorted(p.name for p in tmp_path.iterdir()) == [LAST, "previous.pth"]
