"""Checkpoints: written atomically, read safely whoever wrote them, and refused where they are of something else."""

import argparse
import copy
import datetime
import os
import resource
import signal
from collections import defaultdict
from collections.abc import Callable
from contextlib import nullcontext
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from model.contract import FewShotMethod, ModelSettings, Task
from tests.evaluate.quick import FEW, SYMNET, new_checkpoint, quick_config
from tests.helpers import spawned
from tests.helpers.scored import score
from util.config.read import read_config, to_dict
from util.engine import load_engine
from util.files.errors import UserError
from util.run.build import build_model
from util.run.folder import BEST, LAST, PREVIOUS, StageFolder
from util.run.initial_weights import why_refused
from util.run.run import Run, check_continues
from util.run.weights import check_fits
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.fill import fill
from util.weights.origin import Origin

SAVE = """
import sys, torch
from pathlib import Path
from util import cli
from util.weights import checkpoint
cli.main(lambda: checkpoint.save(Path(sys.argv[1]), {"weights": {"w": torch.zeros(100000)}}))
"""


def no_file_may_grow() -> None:
    """Act as a full disk does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))


@pytest.mark.process
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path: Path):
    path = tmp_path / LAST
    checkpoint.save(path, {"weights": {"w": torch.ones(3)}})
    (tmp_path / "save").mkdir()
    (tmp_path / "save/save.py").write_text(SAVE)
    run = spawned.run(f"{tmp_path}/save/save.py", path, before=no_file_may_grow, check=2)
    assert run.stderr.startswith(f"error: {path}: cannot be written") and run.stderr.count("\n") == 1
    assert torch.equal(torch.load(path, weights_only=True)["weights"]["w"], torch.ones(3))
    assert {p.name for p in tmp_path.iterdir()} == {LAST, "save"}


@pytest.mark.parametrize("save", [checkpoint.save, checkpoint.save_safetensors])
def test_a_checkpoint_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch, save: Callable[..., None]):
    path, synced, sync = tmp_path / BEST, [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(path.exists()) or sync(number))
    save(path, {"weights": {"w": torch.ones(3)}})
    assert synced == [False] and path.exists()


def test_a_truncated_or_changed_checkpoint_is_refused(tmp_path: Path):
    path = tmp_path / BEST
    checkpoint.save(path, {"weights": {"w": torch.full((999,), 7.0)}})
    content = path.read_bytes()
    flipped = bytearray(content)
    flipped[content.index(np.full(9, 7, np.float32)) + 40] ^= 1
    for damaged, said in ((b"", ""), (content[:-100], ""), (flipped, r" \(the checksum .*\)")):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=rf"best\.pth: truncated, or not a check[a-z ]+ safely{said}; copy it"):
            checkpoint.read(path)


# --- of another model, data set or number of shots -------------------------------------------------------------------


@pytest.fixture
def tiny(mini_yaml):
    """Return a function that builds (run, model) from tiny's config with overrides."""

    def build(*overrides: str):
        config = read_config(mini_yaml(), list(overrides))
        return Run(config), build_model(config, text_width=300)

    return build


def test_a_checkpoint_loads_equal_and_one_of_something_else_is_refused(tiny, tmp_path: Path):
    run, model = tiny()
    path = tmp_path / "a.pth"
    checkpoint.save(path, {"stage": "meta", "config": to_dict(run.config), "weights": model.state_dict()})
    _, other = tiny("run.seed=7")
    before = other.decoder.head.classify.weight.clone()
    fill(other, checkpoint.read(path))
    assert not torch.equal(before, model.decoder.head.classify.weight)
    torch.testing.assert_close(other.state_dict(), model.state_dict(), rtol=0, atol=0)
    for override, expected in {
        "data.fold=1": "data.fold = 0, this run has 1",
        "model.encoder.backbone=resnet18": "backbone = resnet10_narrow, this run has resnet18",
        "data.name=other": "data.name = mini, this run has other",
        "model.encoder.output_stride=16": "output_stride = None, this run has 16",
    }.items():
        with pytest.raises(UserError, match=expected):
            check_fits(checkpoint.read(path), tiny(override)[0].config, "meta")


@pytest.mark.parametrize(
    ("override", "reason"), [("data.shot=5", "shot_weights.mix"), ("data.folds=2", "classify.* has shape")]
)
def test_plain_weights_that_do_not_fit_say_where(tiny, tmp_path: Path, override: str, reason: str):
    _, network = tiny()
    torch.save(network.state_dict(), tmp_path / "plain.pth")
    _, other = tiny(override)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(UserError, match=reason):
        fill(other, checkpoint.read(tmp_path / "plain.pth"))
    torch.testing.assert_close(other.state_dict(), before, rtol=0, atol=0)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(tiny, tmp_path: Path, number: float):
    _, network = tiny()
    weights = network.state_dict()
    name = next(name for name, tensor in weights.items() if tensor.is_floating_point())
    torch.save({**weights, name: torch.full_like(weights[name], number)}, tmp_path / "plain.pth")
    with pytest.raises(UserError, match=f"{name} does not hold finite numbers"):
        fill(network, checkpoint.read(tmp_path / "plain.pth"))


class Wrapped(FewShotMethod):
    """A method whose only part is called as a wrapper is."""

    title = "Wrapped"

    def __init__(self, part: str):
        super().__init__(ModelSettings(name="wrapped"), Task(1, 1, 33, 0))
        setattr(self, part, torch.nn.Sequential(torch.nn.Conv2d(3, 2, 1), torch.nn.BatchNorm2d(2)))


@pytest.mark.parametrize("part", ["net", "model", "network", "module", "encoder", "weights"])
def test_no_name_of_our_own_weights_is_taken_for_a_wrapper(tmp_path: Path, part: str):
    state = Wrapped(part).state_dict()
    config = {key: {} for key in ("run", "data", "model", "meta_stage")}
    content = {"format": checkpoint.FORMAT, "stage": "meta", "config": config, "weights": state}
    checkpoint.save(tmp_path / "own.pth", content)
    checkpoint.save_safetensors(tmp_path / "own.safetensors", content)
    torch.save(state, tmp_path / "plain.pth")
    if part == "weights":
        torch.save({"state_dict": {f"module.{name}": x for name, x in state.items()}}, tmp_path / "ddp.pth")
    for file in tmp_path.iterdir():
        other = Wrapped(part)
        fill(other, checkpoint.read(file))
        torch.testing.assert_close(other.state_dict(), state, rtol=0, atol=0)


def test_weights_that_do_not_fit_name_a_tensor_of_each_side(tmp_path: Path):
    stored = checkpoint.Checkpoint(Path("x.pth"), Wrapped("net").net.state_dict(), config={"model": {"name": "other"}})
    with pytest.raises(UserError) as refusal:
        fill(Wrapped("net"), stored)
    told = ": 0 of 6 names of the model are in the file, which has 0.weight, the model net.0.weight; "
    assert f"{told}model.name = other, now wrapped; check model.name" in str(refusal.value)
    assert "tensors" not in str(refusal.value)


@pytest.mark.train
def test_a_test_and_a_prediction_read_their_checkpoint_once(mini_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    config = quick_config(mini_yaml, SYMNET, "test.checkpoint=best", *FEW)
    best = new_checkpoint(config, Run(config).folder("meta") / BEST)
    read = []
    load = checkpoint.load
    monkeypatch.setattr(checkpoint, "load", lambda path: read.append(path) or load(path))
    run, stored = Run(config).as_tested()
    score(run.config, stored=stored)
    assert read == [best]
    load_engine(None, str(config.source), overrides=config.given, device="cpu")
    load_engine(str(best), device="cpu")
    assert read == [best] * 3


# --- as other programs write them: weights are read, nothing else is loaded, and a refusal says why ------------------


class Options:
    """A class that the reader does not have."""

    rate = 0.1


BESIDE = {
    "best": np.float64(0.6),
    "scores": np.ones((2, 3)),
    "args": argparse.Namespace(lr=0.1),
    "folder": Path("runs"),
    "made": datetime.datetime(2026, 1, 1),
    "history": defaultdict(list, {1: [2.0]}),
    "options": Options(),
    "kind": Options,
    "optimizer": {"state": {}, "param_groups": [{"lr": np.float32(1)}]},
}
STATE = {"layer.weight": torch.ones(3), "layer.bias": torch.zeros(2)}


def wrapped(prefix: str) -> dict[str, Tensor]:
    return {prefix + name: tensor for name, tensor in STATE.items()}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "content",
    [
        {"epoch": 3, "state_dict": wrapped("module."), **BESIDE},
        wrapped("_orig_mod."),
        {"model_state_dict": wrapped("module._orig_mod."), "args": BESIDE["args"]},
        {"net": wrapped(""), "model": {"name": "unet"}, "best": torch.tensor(0.5)},
        {"state_dict": wrapped("model."), "hyper_parameters": BESIDE, "pytorch-lightning_version": "2.4"},
        {"model": {"state_dict": wrapped("net.")}},
    ],
)
def test_weights_are_read_from_any_wrapping(tmp_path: Path, content: dict[str, Any], zipped: bool) -> None:
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=zipped)
    torch.testing.assert_close(checkpoint.read(tmp_path / "a.pth").weights, STATE, rtol=0, atol=0)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "a pointer of Git LFS, not the file"),
        ("<!doctype html>\n<html><head><title>Virus scan warning", "a web page, not the file itself; download it"),
    ],
)
def test_a_pointer_file_in_place_of_weights_is_named(tmp_path: Path, name: str, content: str, said: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=f"{name}: is {said}"):
        checkpoint.read(tmp_path / name)


@pytest.mark.parametrize(
    ("call", "refused"), [(os.mkdir, r"it would load posix.mkdir\)"), (Path.mkdir, "unrecognized function"), (exec, "")]
)
def test_nothing_of_a_file_is_executed(tmp_path: Path, call: Any, refused: str) -> None:
    made = tmp_path / "made"

    class Exploit:
        def __reduce__(self) -> tuple:
            return call, (f"import os; os.mkdir({str(made)!r})" if call is exec else made,)

    torch.save({"state_dict": STATE, "extra": Exploit()}, tmp_path / "a.pth")
    raises = pytest.raises(UserError, match=rf"a\.pth: truncated, or not.*{refused}") if refused else nullcontext()
    with raises:
        assert checkpoint.read(tmp_path / "a.pth").weights.keys() == STATE.keys()
    assert not made.exists()


# --- what a training refuses to continue, and folders that a run must not overwrite ----------------------------------

CONFIG = {"run": {"seed": 1, "folder": "runs"}, "data": {"name": "mini"}, "model": {"name": "symnet", "shots": 1}}
CONFIG |= {"meta_stage": {"patience": 0, "optimizers": {"main": {"lr": 0.1}}}, "base_stage": {"epochs": 1}}
PLAN = {"steps_per_epoch": 2, "steps": 8, "batch": 4}
NOW = {"stage": "meta", "config": CONFIG, "list": "list", "text": "vectors", "content": "of files", "schedule": PLAN}
NOW |= {"precision": "float32", "code": {"model.ssp": "0"}, "trained_by": 1}


def saved(config: dict[str, Any] | None = None, **changes: Any) -> Checkpoint:
    content = {**NOW, "config": CONFIG | (config or {}), "progress": {"step": 4}, "weights": {}, **changes}
    return Checkpoint.of(content, Path(LAST))


def test_a_folder_with_any_checkpoint_holds_a_run(tmp_path: Path) -> None:
    assert not StageFolder(tmp_path).why_occupied
    for name in (BEST, LAST, PREVIOUS):
        path = tmp_path / f"with_{name}"
        path.mkdir()
        (path / name).touch()
        why = StageFolder(path).why_occupied
        assert "holds a run already; " in why and ("continue it with --resume" in why) == (name != BEST)


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        (saved(schedule={**PLAN, "batch": 5}), r"another schedule \(batch\)"),
        (saved(list="other"), "another list"),
        (saved(content="other"), "other photos or masks"),
        (saved(text="other"), "other text vectors"),
        (saved(trained_by=2), r"another number of processes \(2, now 1\).*--allow-changes"),
        (
            saved(precision="bf16"),
            r"another precision \(bf16, now float32\).*--allow-changes",
        ),
        (saved(code={"model.ssp": "1"}), r"other code of the method \(model.ssp\).*--allow-changes"),
    ],
)
def test_another_runs_checkpoint_is_refused(stored: Checkpoint, reason: str) -> None:
    with pytest.raises(UserError, match=rf"{LAST}: .*{reason}"):
        check_continues(stored, Origin.of_training(NOW), allow_changes=False)


def test_what_is_equal_unknown_or_allowed_continues() -> None:
    older = saved(precision=None, code=None, text=None, trained_by=None)  # written before these were
    for stored in (saved(), older):
        check_continues(stored, Origin.of_training(NOW), allow_changes=False)
    others = {"precision": "bf16", "code": {}, "list": "other", "content": "other", "trained_by": 2}
    check_continues(saved(**others), Origin.of_training(NOW), allow_changes=True)
    with pytest.raises(UserError, match="another schedule"):
        check_continues(saved(schedule={**PLAN, "batch": 5}), Origin.of_training(NOW), allow_changes=True)


@pytest.mark.parametrize(
    ("setting", "theirs"), [("run.seed", 2), ("model.aux_weight", None), ("meta_stage.optimizers.main.lr", 0.2)]
)
def test_a_training_with_other_settings_is_not_continued(mini_config, setting: str, theirs: Any) -> None:
    run = Run(mini_config())
    config = to_dict(run.config)
    *names, last = setting.split(".")
    section = reduce(getitem, names, config)
    ours = section[last]
    section[last] = theirs
    config["run"] |= {"folder": "other", "precision": "bf16"}  # which decide nothing, or are asked of the computed ones
    config["meta_stage"]["patience"] = 3
    config["base_stage"]["epochs"] = 7
    del config["data"]["exclude_novel"]  # as of a file that was written before the setting existed
    config["data"]["decoded_gib"] = 8.0  # which exists no more, and decided nothing
    stored = Checkpoint.of({"stage": "meta", "config": config, "weights": {}}, Path(LAST))
    said = why_refused(run, "meta", stored, finished=False)
    assert f" was trained with {setting} = {theirs}, now {ours}; " in said
    assert said.endswith("--allow-changes continues it")
    section[last] = ours
    assert why_refused(run, "meta", stored, finished=False) == ""
