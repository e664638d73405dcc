"""Training as users run it: real processes, killed and resumed, alone and spread over two."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from util.config import read_config, to_dict
from util.engine import checkpoint
from util.engine.build import base_folder, build_model
from util.engine.loading import training_numbers
from util.engine.training import BEST

REPOSITORY = Path(__file__).resolve().parents[2]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def run(*words: object, check: int = 0) -> subprocess.CompletedProcess:
    done = subprocess.run(
        [sys.executable, *map(str, words)], cwd=REPOSITORY, env=ENVIRONMENT, capture_output=True, text=True
    )
    assert done.returncode == check, done.stderr[-2000:]
    return done


def weights(path: Path) -> dict[str, torch.Tensor]:
    return torch.load(path, weights_only=True)["weights"]


def same(a: Path, b: Path) -> bool:
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def kill_when_saved(script: str, path: Path, folder: Path, how: signal.Signals, *options: str) -> int:
    """Start a training, signal it once it has written a checkpoint, and return its exit code."""
    words, last = [sys.executable, script, str(path), *options], folder / "last.pth"
    before = last.stat().st_ino if last.exists() else None
    process = subprocess.Popen(words, cwd=REPOSITORY, env=ENVIRONMENT, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    deadline = time.monotonic() + 120
    while not last.exists() or last.stat().st_ino == before:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()[-2000:]
        time.sleep(0.02)
    process.send_signal(how)
    process.communicate(timeout=120)
    return process.returncode


def base_checkpoint(path: Path) -> None:
    """Write a base-stage checkpoint of random weights where the meta stage of a config looks for it."""
    config = read_config(path)
    folder = base_folder(config)
    folder.mkdir(parents=True)
    weights = build_model(config, text_width=300).base_stage().state_dict()
    checkpoint.save(folder / BEST, {"stage": "base", "config": to_dict(config), "weights": weights})


@pytest.mark.parametrize(
    ("script", "leaf", "how"),
    [("train_base.py", "base", signal.SIGKILL), ("train.py", "meta_2shot", signal.SIGINT)],
)
def test_a_killed_and_resumed_run_equals_an_unbroken_one(
    mini_yaml, tmp_path: Path, script: str, leaf: str, how: signal.Signals
):
    stage = {"epochs": 2, "batch": 4, "batch_per": "run", "validate_every": 1, "validate_episodes": 4}
    stage["save_minutes"] = 0.0  # a checkpoint after every step
    path = mini_yaml(base_stage=stage | {"size": 33}, meta_stage=stage, data={"shot": 2})
    folder = tmp_path / "runs" / "tiny" / leaf
    if leaf != "base":
        base_checkpoint(path)
    run(script, path)
    unbroken = folder.rename(tmp_path / "unbroken")
    code = kill_when_saved(script, path, folder, how)
    assert code == (-signal.SIGKILL if how == signal.SIGKILL else 130)
    stopped = torch.load(folder / "last.pth", weights_only=True)
    assert 0 < stopped["progress"]["step"] < stopped["plan"]["steps"]
    refused = run(script, path, check=2)
    assert "--resume" in refused.stderr and "Traceback" not in refused.stderr
    if how == signal.SIGKILL:  # killed again, and what it wrote last cannot be read
        assert kill_when_saved(script, path, folder, how, "--resume") == code
        os.truncate(folder / "last.pth", (folder / "last.pth").stat().st_size // 2)
        assert "previous.pth" in run(script, path, "--resume").stdout
    else:
        run(script, path, "--resume")
    assert same(folder / "last.pth", unbroken / "last.pth")
    assert same(folder / "best.pth", unbroken / "best.pth")
    records = [json.loads((p / "metrics.json").read_text()) for p in (folder, unbroken)]
    assert records[0]["epochs"] == records[1]["epochs"]
    assert records[0]["finished"]


def test_two_processes_train_like_one(mini_yaml, tmp_path: Path):
    stage = {"epochs": 1, "batch": 6, "batch_per": "run", "validate_every": 1, "validate_episodes": 7}
    stage["optimizers"] = {"main": {"kind": "sgd", "lr": 0.02}}  # AdamW would blow rounding up to whole steps
    path = mini_yaml(meta_stage=stage)
    driver = REPOSITORY / "tests/engine/train_without_dropout.py"
    run(driver, path)
    one = (tmp_path / "runs" / "tiny" / "meta").rename(tmp_path / "one")
    run(*TORCHRUN, driver, path)
    two = tmp_path / "runs" / "tiny" / "meta"
    first, second = (json.loads((p / "metrics.json").read_text())["epochs"] for p in (one, two))
    assert len(first) == len(second) == 1
    assert second[0]["losses"] == pytest.approx(first[0]["losses"], rel=2e-4)
    a, b = weights(one / "last.pth"), weights(two / "last.pth")
    for name in a:
        assert torch.allclose(a[name].float(), b[name].float(), rtol=1e-2, atol=2e-4), name
    assert second[0]["validation"]["all_foreground"] == first[0]["validation"]["all_foreground"]


def test_accumulated_parts_cover_the_same_episodes():
    whole = [n for batch in training_numbers(0, 5, 8, 0, 1, 1) for n in batch]
    split = [n for batch in training_numbers(0, 5, 8, 0, 1, 4) for n in batch]
    assert whole == split == list(range(40))
    shared = [list(training_numbers(0, 5, 8, rank, 2, 1)) for rank in (0, 1)]
    assert [n for step in zip(*shared) for batch in step for n in batch] == whole
    uneven = [list(training_numbers(0, 2, 7, rank, 3, 1)) for rank in range(3)]
    assert [n for step in zip(*uneven) for batch in step for n in batch] == list(range(14))
    resumed = [n for batch in training_numbers(3, 5, 8, 0, 1, 1) for n in batch]
    assert resumed == whole[24:]


def test_a_run_folder_tells_the_whole_story(mini_yaml, tmp_path: Path):
    path = mini_yaml()
    run("train_base.py", path)
    run("train.py", path)
    for stage in ("base", "meta"):
        folder = tmp_path / "runs" / "tiny" / stage
        environment = json.loads((folder / "environment.json").read_text())
        assert {"commit", "packages", "machine", "command", "images", "list"} <= environment.keys()
        assert "fold: 0" in (folder / "config.yaml").read_text()
        assert f"{stage} stage" in (folder / "log.txt").read_text()
        assert list((folder / "tensorboard").iterdir())
        losses = json.loads((folder / "metrics.json").read_text())["epochs"][0]["losses"]
        assert losses["total"] == pytest.approx(sum(v for k, v in losses.items() if k != "total"))
        again = run("test.py" if stage == "meta" else "train_base.py", path, check=0 if stage == "meta" else 2)
        assert "Traceback" not in again.stderr
    result = json.loads((tmp_path / "runs/tiny/test/symnet/result.json").read_text())
    assert {"final", "meta", "base", "all_foreground"} <= result["mean"].keys()
    base, meta = (weights(tmp_path / f"runs/tiny/{s}/best.pth") for s in ("base", "meta"))
    assert all(torch.equal(base[k], meta[k]) for k in base)  # frozen parts stayed as the base stage left them
