"""A training that is stopped once and killed at random moments ends as an uninterrupted run does."""

import json
import os
import random
import signal
import time
from pathlib import Path

import pytest
import torch

from tests import spawned
from util.checkpoints import checkpoint
from util.checkpoints.run import BEST, LAST, METRICS
from util.cli import STOPS
from util.files import write_atomically

pytestmark = [pytest.mark.process, pytest.mark.train]

KILLS, MAX_STEPS = 4, 3
LONGEST_WAIT = 0.1  # seconds
STAGE = {
    "epochs": 2,
    "epoch_length": 72,
    "validate_every": 1,
    "validate_midway": True,
    "validate_episodes": 4,
    "save_minutes": 0.0,
    "ema_decay": 0.9,
}


def saves(folder: Path) -> int:
    """Return a value that changes with every checkpoint."""
    return (folder / LAST).stat().st_mtime_ns


def descendants(pid: int) -> list[int]:
    """Return the processes that a process has started, and those that these have."""
    children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return [*children, *(other for child in children for other in descendants(child))]


def lives(pid: int) -> bool:
    """Return whether a process is there and has not ended."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_a_stop_and_kills_at_random_moments_change_no_loss_and_no_weight(mini_yaml, tmp_path: Path) -> None:
    """First SIGUSR1 and SIGTERM, to the loader processes as well, as Slurm and torchrun send them."""
    path = mini_yaml("mini_split0_ssp_resnet10.yaml", meta_stage=STAGE)
    folder = tmp_path / "runs/tiny/meta"
    spawned.run("train.py", path)
    unbroken = folder.rename(tmp_path / "unbroken")
    training = spawned.start("train.py", path, "--set", "data.workers=2")
    spawned.wait_for(lambda: "1/36" in training.stderr, training)
    for number in STOPS:
        os.killpg(training.process.pid, number)
    assert training.code == 130 and "Traceback" not in training.stderr, training.stderr
    moments, steps = random.Random(0), [checkpoint.read(folder / LAST)["progress"]["step"]]
    assert 0 < steps[0] < 36
    for number in range(KILLS):
        workers = 0 if number else 2
        training = spawned.start("train.py", path, "--resume", "--set", f"data.workers={workers}")
        for _ in range(max(moments.randrange(MAX_STEPS + 1), workers)):
            before = saves(folder)
            spawned.wait_for(lambda before=before: saves(folder) != before, training)
        time.sleep(moments.random() * LONGEST_WAIT)  # amid a start, a step, a checkpoint or a validation
        loaders = descendants(training.process.pid)
        training.signal(signal.SIGKILL)
        assert training.code == -signal.SIGKILL
        steps.append(checkpoint.read(folder / LAST)["progress"]["step"])
        spawned.wait_for(lambda loaders=loaders: not any(map(lives, loaders)))
    assert steps == sorted(steps) and len(set(steps)) > KILLS // 2
    assert "--resume" in spawned.run("train.py", path, check=2).stderr
    part = (folder / LAST).read_bytes()[:999]
    (folder / LAST).unlink()  # a kill between two renames leaves both checkpoints as one file
    (folder / LAST).write_bytes(part)
    assert "continuing from the one before" in spawned.run("train.py", path, "--resume").stdout
    whole, resumed = (checkpoint.read(f / LAST) for f in (unbroken, folder))
    assert all(torch.equal(whole["weights"][k], resumed["weights"][k]) for k in whole["weights"])
    assert whole["progress"]["history"] == resumed["progress"]["history"]
    best = [list(checkpoint.read(f / BEST)["weights"].values()) for f in (unbroken, folder)]
    assert all(torch.equal(a, b) for a, b in zip(*best))
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
