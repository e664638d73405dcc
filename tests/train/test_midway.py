"""Validation in the middle of epochs: its time, its effect on the best checkpoint, and continued runs."""

from __future__ import annotations

import operator
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import Dataset

from model.contract import ParamGroup, Trainable
from model.episode import LabelledImages, Output
from tests.helpers.read import json_of
from util.config.settings import AugmentSettings, OptimizerSettings, StageSettings
from util.files.digests import PHOTO_DIGITS
from util.files.errors import UserError
from util.loop.interrupt import Interrupt
from util.loop.loading import batches, training_numbers
from util.loop.network import PreparedNetwork, prepare_network
from util.loop.observers import TrainingObserver
from util.loop.optim import EMA, SCHEDULES, StepSchedule, build_optimizers
from util.loop.processes import ProcessGroup
from util.loop.train import train_to_end
from util.loop.training import Training
from util.run.folder import BEST, LAST, METRICS, RunFolder, StageFolder
from util.train.bookkeeping import Checkpoints, Losses, Patience, StopOnSignal, Validation, resume, schedule_to_continue
from util.weights import checkpoint

WORLD = ProcessGroup(0, 1, torch.device("cpu"))
BATCH, STEPS = 2, 5  # of an epoch; its middle is after step 2
OF_BASE_STAGE = 2.0**30  # MiB that it took, more than any training here
RARE = 2.0  # a loss of batches with a label 0, two of an epoch's five
EVERY = [5, 7, 10, 12, 15, 17, 20]  # steps at which four epochs are validated

CONFIG: dict[str, dict] = {"run": {}, "data": {}, "model": {}, "meta_stage": {}}  # of checkpoints


class Stopped(Exception):
    """The run ends here."""


class Line(Trainable):
    """Learns a line, with dropout, from numbers in place of images, by two optimisers."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(2, 1)
        self.depth = nn.Parameter(torch.zeros(1))  # that nothing reads

    def param_groups(self) -> list[ParamGroup]:
        return [
            ParamGroup("weight", [self.layer.weight]),
            ParamGroup("bias", [self.layer.bias, self.depth], optimizer="other"),
        ]

    def forward(self, batch: LabelledImages) -> Output:
        prediction = self.layer(nn.functional.dropout(batch.image, 0.5)).float()
        rare = {} if batch.label.all() else {"rare": torch.tensor(RARE)}
        return Output(prediction, losses={"main": (prediction - batch.label).square().mean(), **rare})


class Numbers(Dataset):
    """Examples made from their number; there is none from ``end`` on."""

    def __init__(self, end: float):
        self.end = end

    def __getitem__(self, number: int) -> LabelledImages:
        if number >= self.end:
            raise Stopped
        return LabelledImages(torch.tensor([number % 7, number % 3]).float(), torch.tensor([number % 5]).float())


class Run:
    """A training of ``Line`` in a folder, the steps at which it was validated, and its files."""

    def __init__(
        self,
        folder: Path,
        score: Callable[[int], float],
        end: float = float("inf"),
        world: ProcessGroup = WORLD,
        precision: str = "float32",
        **stage: Any,
    ):
        self.folder = folder
        self.score = score
        self.validated = []
        self.data = Numbers(end)
        stage = {"epochs": 4, "batch": BATCH, "validate_midway": True, "ema_decay": 0.5} | stage
        stage = {"optimizers": dict.fromkeys(("main", "other"), OptimizerSettings(lr=0.01)), **stage}
        settings = StageSettings(augment=AugmentSettings(), **stage)
        schedule = StepSchedule.from_settings(settings, BATCH * STEPS, 1, "meta_stage")
        network = Line()
        self.training = Training(
            prepared=prepare_network(network, WORLD.device, precision),
            optimizers=build_optimizers(network.param_groups(), settings.optimizers),
            rules=settings.optimizers,
            ema=EMA(network, settings.ema_decay),
            schedule=schedule,
            world=world,
        )
        state = {
            "stage": "meta",
            "config": CONFIG,
            "list": "numbers",
            "precision": precision,
            "schedule": asdict(schedule),
        }
        self.checkpoints = Checkpoints(RunFolder(folder), state, validates=bool(settings.validate_every))
        self.observers: list[TrainingObserver] = [Losses(), self.checkpoints]
        if settings.validate_every:
            self.observers[1:1] = [Validation(self._validate, settings, self.checkpoints), Patience(settings.patience)]

    def _validate(self, prepared: PreparedNetwork, step: int) -> tuple[float, dict[str, Any]]:
        score = self.score(step)
        self.validated.append(step)
        return score, {"weight": prepared.network.layer.weight.sum().item()}

    def fit(self) -> Run:
        """Train to the end, or to where it stops."""
        numbers = training_numbers(
            self.training.progress.step, self.training.schedule.steps, batch=BATCH, rank=0, processes=1, parts=1
        )
        with closing(self.checkpoints.folder), suppress(Stopped):
            train_to_end(self.training, batches(self.data, numbers, 0, WORLD.device), self.observers)
        return self

    def resume(self, allow_changes: bool = False) -> Run:
        """Train on from the last checkpoint."""
        resume(self.training, StageFolder(self.folder).newest(), self.checkpoints.state, allow_changes)
        return self.fit()

    @property
    def record(self) -> dict[str, Any]:
        return {k: v for k, v in json_of(self.folder / METRICS).items() if not k.endswith("minutes")}

    def weights(self, name: str) -> list[list[float]]:
        return [w.tolist() for w in checkpoint.read(self.folder / name).entries["weights"].values()]

    def outcome(self) -> tuple[dict[str, Any], list[list[float]], list[list[float]]]:
        """Return all that it leaves: its record, its best and its last weights."""
        return self.record, self.weights(BEST), self.weights(LAST)


def test_every_epoch_but_the_first_is_validated_in_its_middle_too(tmp_path: Path) -> None:
    """The last checkpoint holds the moving average beside the weights."""
    run = Run(tmp_path, float).fit()
    records = run.record["epochs"]
    assert run.validated == [record["step"] for record in records] == EVERY
    assert [record["epoch"] for record in records] == [1, 1.5, 2, 2.5, 3, 3.5, 4]
    assert [record.get("losses", {}).get("rare") for record in records] == [RARE, None] * 3 + [RARE]
    last, best = checkpoint.read(run.folder / LAST), checkpoint.read(run.folder / BEST)
    average = run.training.ema.average["layer.weight"]
    assert not torch.equal(last.entries["weights"]["layer.weight"], average)
    assert last.weights["layer.weight"].tolist() == best.weights["layer.weight"].tolist() == average.tolist()
    scored = records[-1]["validation"]["weight"]
    assert (scored, best.finished, "ema" in best.entries) == (average.sum().item(), True, False)


@pytest.mark.parametrize(("score", "since"), [(lambda _: 0.0, 5), (lambda step: 0.001 if step > 7 else 9.0, 10)])
def test_what_learns_nothing_is_said_once(tmp_path: Path, caplog, score: Callable[[int], float], since: int) -> None:
    caplog.set_level("INFO", "symnet")
    Run(tmp_path, score).fit()
    said = [line for line in caplog.messages if "reaches" in line or "background" in line]
    assert said[0] == "no loss of step 1 reaches these learnable parameters: depth"
    assert [line.partition(":")[0] for line in said[1:]] == [f"all is called background since step {since}"]


def test_a_validation_may_come_several_times_in_an_epoch_and_changes_no_weights(tmp_path: Path) -> None:
    often = Run(tmp_path / "often", operator.neg, validate_every=0.4, validate_midway=False).fit()
    assert often.validated == [*range(2, 21, 2)]
    assert often.record["best"] == {"score": -2, "epoch": 0.4}
    never = Run(tmp_path / "never", float, validate_every=0, validate_midway=False).fit()
    assert often.weights(LAST) == never.weights(LAST) != often.weights(BEST)


def test_each_process_draws_dropouts_of_its_own(tmp_path: Path) -> None:
    """Of equal batches; with the same rank again they are the same."""
    ranks = [0, 1, 1]
    runs = [Run(tmp_path / str(i), float, world=ProcessGroup(rank, 1, WORLD.device)) for i, rank in enumerate(ranks)]
    first, second, again = [run.fit().training.ema.average["layer.weight"].tolist() for run in runs]
    assert first != second == again


@pytest.mark.parametrize(
    ("every", "scores", "steps"),
    [(1, {5: 1, 10: 2, 15: 0, 20: 0}, [5, 10, 15, 20]), (3, {15: 1, 30: 2, 45: 1}, [15, 30, 45])],
)
def test_patience_counts_epochs_since_the_best_validation(
    tmp_path: Path, every: int, scores: dict[int, float], steps: list[int]
) -> None:
    """It waits for the next validation. What a longer patience takes is not added to the cost of the best one."""
    began = time.process_time()
    settings = {"epochs": 12, "validate_every": every, "validate_midway": False}
    run = Run(tmp_path, scores.get, patience=2, **settings)
    run.training.progress.peak_mib = OF_BASE_STAGE
    assert run.fit().validated == steps and run.record["best"]["score"] == 2
    cost = checkpoint.read(tmp_path / BEST).cost
    longer = Run(tmp_path, operator.neg, patience=2 + every, **settings).resume(allow_changes=True).training.progress
    assert (checkpoint.read(tmp_path / BEST).cost, longer.peak_mib) == (cost, OF_BASE_STAGE)
    assert cost["processor_minutes"] < longer.processor_minutes <= (time.process_time() - began) / 60


@pytest.mark.parametrize(("left", "heard"), [(3, True), (0, False)])
def test_a_signal_is_heard_between_the_batches_of_a_validation(tmp_path: Path, left: int, heard: bool) -> None:
    """Only in those that every process has; the continued run validates again, to the same end."""
    validated_batches = []

    def score(step: int) -> float:
        if step == 12:
            watch = StopOnSignal(run.training, left)
            for batch in range(5):
                validated_batches.append(batch)
                if batch == 1:
                    os.kill(os.getpid(), signal.SIGTERM)
                watch.add([batch], None, None)
        return -step

    run = Run(tmp_path / "run", score)
    run.fit()
    last_step = checkpoint.read(run.folder / LAST).entries["progress"]["step"]
    second = Run(tmp_path / "run", operator.neg).resume()
    if heard:
        assert (validated_batches, last_step, second.validated[0]) == ([0, 1], 12, 12)
    else:
        assert (validated_batches, last_step, second.validated[0]) == ([0, 1, 2, 3, 4], 13, 15)
    assert second.outcome() == Run(tmp_path / "unbroken", operator.neg).fit().outcome()


@pytest.mark.parametrize(("where", "precision"), [("amid", "float32"), ("after", "fp16"), ("signal", "float32")])
def test_a_run_that_ends_at_a_midway_validation_continues_to_the_unbroken_end(
    tmp_path: Path, where: str, precision: str
) -> None:
    """In fp16 with the scale that had fallen before the end."""
    scores = {5: 1, 7: 4, 10: 2, 12: 5, 15: 3, 17: 5, 20: 4}
    unbroken = Run(tmp_path / "unbroken", scores.get, precision=precision).fit()

    def score(step: int) -> float:
        if step == 12 and where == "amid":
            raise Stopped
        if step == 12 and where == "signal":
            os.kill(os.getpid(), signal.SIGTERM)
        return scores[step]

    end = 12 * BATCH if where == "after" else float("inf")
    first = Run(tmp_path / "run", score, end, precision=precision).fit()
    stopped = checkpoint.read(first.folder / LAST).entries["progress"]
    assert stopped["step"] == (13 if where == "signal" else 12)
    assert stopped["totals"]  # the sums of half an epoch
    overflows = precision == "fp16" and not torch.__version__.startswith("2.5.")  # whose gradients stay finite here
    assert (stopped["skipped"] > 0) == overflows
    second = Run(tmp_path / "run", scores.get, precision=precision).resume()
    assert first.validated + second.validated == EVERY  # none twice, none lost
    assert second.record["best"] == {"score": 5, "epoch": 2.5}
    assert second.outcome() == unbroken.outcome()


def test_a_schedule_of_the_validations_continues_to_the_unbroken_end(tmp_path: Path, monkeypatch) -> None:
    """The rate halves with each validation that was no better."""

    def plateau(_: int, steps: int, history: list[dict[str, Any]]) -> float:
        weights = [entry["validation"]["weight"] for entry in history if "validation" in entry]
        return 100 / steps / 2 ** sum(after <= before for before, after in pairwise(weights))

    monkeypatch.setitem(SCHEDULES, "plateau", plateau)
    options = {"optimizers": dict.fromkeys(("main", "other"), OptimizerSettings(lr=0.01, schedule="plateau"))}
    unbroken = Run(tmp_path / "unbroken", float, **options).fit()
    (group,) = unbroken.training.optimizers["main"].param_groups
    assert group["lr"] < 0.05
    Run(tmp_path / "run", float, end=13 * BATCH, **options).fit()
    assert Run(tmp_path / "run", float, **options).resume().outcome() == unbroken.outcome()
    monkeypatch.setitem(SCHEDULES, "plateau", lambda *_: 1 / 0)
    with pytest.raises(UserError, match=r"schedule plateau failed: ZeroDivisionError.*test_midway.py, line"):
        Run(tmp_path / "fails", float, **options).fit()


@pytest.mark.parametrize(("seconds", "step"), [(600, 7), (0, 8)])
def test_the_last_checkpoint_is_at_most_so_old(tmp_path: Path, seconds: int, step: int, monkeypatch) -> None:
    monkeypatch.setattr("util.train.bookkeeping.SAVE_SECONDS", seconds)
    run = Run(tmp_path, float, end=BATCH * 8).fit()  # it ends after step 8; its newest record is of step 7
    assert checkpoint.read(run.folder / LAST).entries["progress"]["step"] == step


def test_a_run_whose_folder_is_renamed_makes_no_second_half(tmp_path: Path) -> None:
    """Without validations it has a record where a signal ends it."""
    run = Run(tmp_path / "run", float, validate_every=0, validate_midway=False)
    run.checkpoints.interrupted(run.training)
    assert run.record["epochs"] == [] and not run.record["finished"]
    run.observers[0].begin = lambda *_: run.folder.rename(tmp_path / "renamed")
    with pytest.raises(UserError, match=r"run: this folder was renamed or removed.* --resume"):
        run.fit()
    assert not run.folder.exists()


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_interrupts_a_run_that_does_not_ignore_it(before: signal.Handlers) -> None:
    restored = signal.signal(signal.SIGHUP, before)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == (before != signal.SIG_IGN) and signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, restored)


def test_a_run_goes_on_without_a_photo_that_was_left_out(tmp_path: Path) -> None:
    """By --allow-changes, in the steps that it was begun with; its photos of before stay known."""
    whole = Run(tmp_path / "whole", float).fit().outcome()
    begun = Run(tmp_path / "run", float, end=BATCH * 8)
    begun.checkpoints.state["photos"] = "a" * PHOTO_DIGITS
    begun.fit()
    again = Run(tmp_path / "run", float)
    again.checkpoints.state["list"] = "shorter"
    with pytest.raises(UserError, match=r"another list .*; --allow-changes continues with other photos"):
        again.resume()
    stored = checkpoint.read(tmp_path / "run" / LAST)
    assert stored.photos == {"a" * PHOTO_DIGITS}
    again.training.schedule = schedule_to_continue(StepSchedule(STEPS - 1, (STEPS - 1) * 4, BATCH), stored, "shorter")
    again.checkpoints.folder = RunFolder(tmp_path / "run")
    assert again.resume(allow_changes=True).outcome() == whole
