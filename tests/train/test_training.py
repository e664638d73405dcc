"""Training as users run it: real processes, killed and resumed, alone and spread over two."""

import json
import os
from pathlib import Path

import pytest
import torch

from tests import spawned
from tests.paths import REPOSITORY
from util.checkpoints import checkpoint
from util.checkpoints.weights import network_to_train
from util.cli import STOPS
from util.config.read import read_config, to_dict
from util.errors import UserError
from util.run.context import BEST, base_folder, make_run_context
from util.run.loading import training_numbers
from util.run.network import build_model


def weights(path: Path) -> dict[str, torch.Tensor]:
    return checkpoint.read(path)["weights"]


def same(a: Path, b: Path) -> bool:
    a, b = weights(a), weights(b)
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def base_checkpoint(path: Path) -> None:
    """Write a base-stage checkpoint of random weights where the meta stage of a config looks for it."""
    config = read_config(path)
    folder = base_folder(config)
    folder.mkdir(parents=True)
    weights = build_model(config, text_width=300).base_stage().state_dict()
    checkpoint.save(folder / BEST, {"stage": "base", "config": to_dict(config), "weights": weights})


def test_a_meta_stage_refuses_a_base_stage_of_other_settings(mini_yaml) -> None:
    base_checkpoint(path := mini_yaml())
    changed = make_run_context(read_config(path, ["base_stage.epochs=3"]))
    with pytest.raises(UserError, match=r"best.pth: .* base_stage.epochs = 1, now 3"):
        network_to_train(changed, "meta", resume=False)
    network_to_train(changed, "meta", resume=False, base=base_folder(changed.config) / BEST)


@pytest.mark.process
@pytest.mark.train
def test_a_run_whose_process_group_was_terminated_continues_to_the_same_end(mini_yaml, tmp_path: Path):
    """SIGUSR1 and SIGTERM to the loader processes as well, as Slurm and torchrun send them."""
    stage = {"epochs": 2, "epoch_length": 16, "validate_every": 2}
    path = mini_yaml(meta_stage=stage, data={"shot": 2})
    folder = tmp_path / "runs/tiny/meta_2shot"
    base_checkpoint(path)
    spawned.run("train.py", path)
    unbroken = folder.rename(tmp_path / "unbroken")
    training = spawned.start("train.py", path, "--set", "data.workers=2")
    spawned.wait_for(lambda: "1/8" in training.stderr, training)
    for number in STOPS:
        os.killpg(training.process.pid, number)
    assert training.code == 130 and "Traceback" not in training.stderr, training.stderr
    stopped = torch.load(folder / "last.pth", weights_only=True)
    assert 0 < stopped["progress"]["step"] < stopped["schedule"]["steps"]
    spawned.run("train.py", path, "--resume")
    assert same(folder / "last.pth", unbroken / "last.pth") and same(folder / "best.pth", unbroken / "best.pth")
    records = [json.loads((p / "metrics.json").read_text()) for p in (folder, unbroken)]
    assert records[0]["epochs"] == records[1]["epochs"] and records[0]["finished"]


@pytest.mark.process
@pytest.mark.train
def test_two_processes_train_like_one(mini_yaml, tmp_path: Path, device: str):
    if device != "cpu" and torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    stage = {"epochs": 2, "epoch_length": 24, "batch": 6, "batch_per": "run", "validate_episodes": 7}
    stage |= {"validate_every": 2, "validate_midway": True}
    stage["optimizers"] = {"main": {"kind": "sgd", "lr": 0.02}}  # AdamW would blow rounding up to whole steps
    path = mini_yaml(meta_stage=stage, run={"device": device})
    driver = REPOSITORY / "tests/train/train_without_dropout.py"
    spawned.run(driver, path)
    one = (tmp_path / "runs" / "tiny" / "meta").rename(tmp_path / "one")
    ranks = spawned.start_ranks(2, driver, path)
    assert [r.code for r in ranks] == [0, 0], [r.stderr[-2000:] for r in ranks]
    two = tmp_path / "runs" / "tiny" / "meta"
    first, second = (json.loads((p / "metrics.json").read_text())["epochs"] for p in (one, two))
    assert [r["epoch"] for r in first] == [r["epoch"] for r in second] == [1, 1.5, 2]
    assert second[0]["losses"] == pytest.approx(first[0]["losses"], rel=2e-4)
    a, b = weights(one / "last.pth"), weights(two / "last.pth")
    for name in a:
        assert torch.allclose(a[name].float(), b[name].float(), rtol=1e-2, atol=2e-4), name
    for alone, shared in zip(first[1:], second[1:]):
        assert shared["validation"]["all_foreground"] == alone["validation"]["all_foreground"]


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
