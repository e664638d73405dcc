"""``train.sh`` and ``test.sh``: their words, their configs, and whole runs as a user types them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from tests import spawned
from tests.paths import REPOSITORY
from util import cli
from util.checkpoints import checkpoint
from util.config.command_line import Choice, choice_from_environment
from util.config.read import read_config
from util.errors import UserError
from util.launch.launch import (
    Launch,
    _exit_code,
    check_gpus,
    gpus_for,
    main,
    parse,
    suggestion_for_cpu,
)

# A data set of tiny photos through the real scripts and the real config, shortened by overrides.
SHORT = {
    "data.size": 33,
    "data.min_pixels": 100,
    "base_stage.size": 33,
    "base_stage.epochs": 1,
    "base_stage.batch": 8,
    "base_stage.validate_episodes": 4,
    "meta_stage.epochs": 1,
    "meta_stage.batch": 4,
    "meta_stage.epoch_length": 16,
    "meta_stage.validate_episodes": 4,
    "test.episodes": 4,
    "test.pictures": 2,
    "test.seeds": [0],
}
LAUNCH = ("-m", "util.launch.launch")


def sh(script: str, *words: str, **environment: str) -> subprocess.CompletedProcess:
    python = Path(sys.executable).parent
    path = f"{python}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", script, *words],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


def test_text_vectors_and_checkpoint_come_in_either_order():
    expected = ["--set", "data.text=glove", "--set", "run.device=cpu"]
    for rest in (["glove", "a.pth"], ["a.pth", "glove"]):
        launch = parse(["test", "split0", "pascal", "0", *rest])
        assert launch == Launch("test", Path("config/pascal/pascal_split0_resnet50.yaml"), 0, expected, "a.pth")


def test_net_and_model_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NET", "resnet101")
    monkeypatch.setenv("MODEL", "")
    assert choice_from_environment() == Choice(None, "resnet101")
    launch = parse(["train", "split1", "pascal", "0"], Choice("ssp", "resnet101"))
    assert launch.config == Path("config/pascal/pascal_split1_ssp_resnet101.yaml")


def test_net_and_model_may_be_options():
    """They win over the environment, and are not passed on to the scripts, which get the config's name."""
    launch = parse(["train", "split1", "mini", "0", "--net", "resnet34", "--resume"], Choice("dcama", "resnet18"))
    assert launch.config == Path("config/mini/mini_split1_dcama_resnet34.yaml")
    assert launch.options == ["--set", "run.device=cpu", "--resume"]


@pytest.mark.parametrize(
    ("gpus", "machines", "stage", "used"),
    [
        (8, 1, "base_stage", 6),  # 12 images in all, two in each process
        (4, 1, "base_stage", 4),
        (4, 2, "base_stage", 3),
        (8, 1, "meta_stage", 8),
        (0, 1, "base_stage", 0),
        (1, 7, "base_stage", None),
    ],
)
def test_no_more_gpus_are_used_than_the_batch_has_parts(gpus: int, machines: int, stage: str, used, monkeypatch):
    monkeypatch.setenv("NNODES", str(machines))
    launch = parse(["train", "split0", "pascal", str(gpus)])
    settings = getattr(read_config(launch.config), stage)
    if used is None:
        with pytest.raises(UserError, match=r"base_stage\.batch = 12"):
            gpus_for(launch, settings, stage)
    else:
        assert gpus_for(launch, settings, stage) == used


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["train", "split0", "pascal"], "too few words"),
        (["train", "split0", "pascal", "two"], "'two' is not a number of GPUs"),
        (["train", "split0", "pascall", "0"], "did you mean 'pascal'"),
        (["train", "splitt0", "pascal", "0"], "pascal_splitt0_resnet50.yaml: no such config; did you mean"),
        (["train", "split0", "pascal", "0", "--model", "sspp"], "sspp: no such method; did you mean 'ssp'"),
        (["test", "split0", "pascal", "0", "some/where"], "neither the name of text vectors nor a checkpoint"),
    ],
)
def test_words_that_mean_nothing_are_refused(words: list[str], reason: str):
    with pytest.raises(UserError, match=reason):
        parse(words)


def test_without_a_gpu_the_method_for_cpus_is_named_with_its_command():
    launch = parse(["train", "split2", "pascal", "0"])
    line = suggestion_for_cpu(launch, read_config(launch.config))
    assert line is not None and line.count("\n") == 0
    method, command = line.rpartition(": ")[2].split(" ", 1)
    own = parse(["train", *command.split()[2:]], Choice(method.removeprefix("MODEL=")))
    assert own.config == Path("config/pascal/pascal_split2_pocket_lite0.yaml")
    assert suggestion_for_cpu(own, read_config(own.config)) is None


def test_more_gpus_than_present_are_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch, capsys):
    with pytest.raises(UserError, match="999 GPUs were asked for, this machine has"):
        check_gpus(999)
    monkeypatch.setattr(sys, "argv", ["launch", "train", "split0", "pascal", "999"])
    with pytest.raises(SystemExit) as caught:
        cli.main(main)
    errors = capsys.readouterr().err
    assert caught.value.code == 2 and errors.count("\n") == 1 and errors.startswith("error: 999 GPUs")


def test_which_of_several_processes_was_killed_is_exit_code():
    """The others ended because of it, perhaps within the same second."""
    codes = {0: 2, 1: -signal.SIGKILL, 2: -signal.SIGTERM}
    failures = {rank: ProcessFailure(rank, 1, code, "none") for rank, code in codes.items()}
    with pytest.raises(UserError, match=r"process 1 was killed \(SIGKILL\).*--resume"):
        _exit_code(ChildFailedError("train.py", failures))
    assert _exit_code(ChildFailedError("train.py", {0: failures[0]})) == 2


@pytest.mark.process
@pytest.mark.train
def test_train_and_test_as_typed(mini_root: Path, tmp_path: Path):
    settings = SHORT | {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    first = sh("train.sh", "split0", "mini", "0", *options)
    assert first.returncode == 0, first.stderr[-2000:]
    assert "training it first" in first.stdout
    run = tmp_path / "runs/mini_split0_resnet10"
    assert json.loads((run / "meta/metrics.json").read_text())["finished"]

    check_story(run)

    forked = {"before": spawned.fork_scripts}
    second = spawned.run(*LAUNCH, "train", "split0", "mini", "0", *options, check=2, **forked)
    assert "holds a run already" in second.stderr
    assert "training it first" not in second.stdout  # the base stage is there
    third = spawned.run(
        *LAUNCH, "train", "split0", "mini", "0", *options, "--set", "base_stage.epochs=2", check=2, **forked
    )
    assert "base stage was trained with base_stage.epochs = 1, now 2" in third.stderr

    words = ["test", "split0", "mini", "0", "names", run / "meta/last.pth", *options]
    tested = spawned.run(*LAUNCH, *words, **forked)
    assert "| final" in tested.stdout + tested.stderr
    result = json.loads((run / "test/symnet_last_quick/result.json").read_text())
    assert result["quick_look"] and result["checkpoint"].endswith("last.pth")
    assert {"final", "meta", "base", "all_foreground"} <= result["mean"].keys()
    assert (run / "test/symnet_last_quick/episodes.png").exists()


def check_story(run: Path) -> None:
    """Check that the folders of both stages tell all of a run."""
    for stage in ("base", "meta"):
        folder = run / stage
        environment = json.loads((folder / "environment.json").read_text())
        assert {"commit", "packages", "machine", "command", "images", "list"} <= environment.keys()
        assert "fold: 0" in (folder / "config.yaml").read_text()
        assert f"{stage} stage" in (folder / "log.txt").read_text()
        assert list((folder / "tensorboard").iterdir())
        losses = json.loads((folder / "metrics.json").read_text())["epochs"][0]["losses"]
        assert losses["total"] == pytest.approx(sum(v for k, v in losses.items() if k != "total"))
    base, meta = (checkpoint.read(run / s / "best.pth")["weights"] for s in ("base", "meta"))
    assert all(torch.equal(base[k], meta[k]) for k in base)  # frozen parts stayed as the base stage left them
