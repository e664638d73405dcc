"""A training before it begins: its steps, what it stores, and whether that fits on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch

from model.contract import Trainable
from model.registry import class_of
from util.config.optimizers import OPTIMIZERS
from util.config.settings import Config, StageSettings
from util.data.lists.published_sizes import published, whole
from util.data.words.text import NAME_VECTOR_WIDTH
from util.files.errors import UserError
from util.files.progress import ProgressBar
from util.run.data import epoch_length, listed_for_training
from util.run.network import build_model
from util.train.optim import StepSchedule
from util.train.state import StageTask


class Stored(NamedTuple):
    """The bytes of a stage's checkpoints."""

    final_bytes: int  # of a finished stage: best and last
    peak_bytes: int  # at a time: best, last, the one before, and a new one

    @classmethod
    def of(cls, network: Trainable, stage: StageSettings) -> Stored:
        """Return those of a stage's network."""
        weights = sum(tensor.nbytes for tensor in network.stored_state().values())
        learning = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
        average = learning if stage.ema_decay > 0 else 0
        moments = learning * max(
            (OPTIMIZERS[optimizer.kind].moments for optimizer in stage.optimizers.values()), default=0
        )
        return cls(final_bytes=2 * weights + average, peak_bytes=4 * weights + 3 * (moments + average))


@dataclass(frozen=True)
class PlannedTraining:
    """A stage of a training, with its steps and what it stores."""

    task: StageTask
    length: int  # number of examples of an epoch; 0: not known
    schedule: StepSchedule
    stored: Stored


def check_plan(tasks: list[StageTask]) -> None:
    """Refuse (UserError) trainings that cannot be described, or that do not fit on the disk."""
    trainings, errors = planned([task for task in tasks if task.left > 0])
    if trainings:
        errors.append(disk(tasks[0].config, trainings)[1])
    for error in filter(None, errors):
        raise UserError(error)


def planned(tasks: list[StageTask]) -> tuple[list[PlannedTraining], list[str]]:
    """Return the trainings among some tasks, those of one folder once, and the errors of those that have a mistake."""
    by_folder = dict[tuple[str, Path], StageTask]()
    for task in tasks:
        if task.stage != "test":
            by_folder.setdefault((task.stage, task.folder), task)
    known = dict[str, Stored]()  # by all that it depends on
    trainings = list[PlannedTraining]()
    errors = list[str]()
    for task in ProgressBar(by_folder.values(), "planning", unit="stage", leave=False):
        length = _length(task)
        try:  # the batch is independent of the length
            schedule = StepSchedule.from_settings(task.settings, length, task.processes, f"{task.stage}_stage")
            key = repr((task.config.model, task.config.data, task.settings))
            if key not in known:
                known[key] = stored_by(task.config, task.stage)
            trainings.append(PlannedTraining(task, length, schedule, known[key]))
        except UserError as error:
            errors.append(str(error))
    return trainings, errors


def disk(config: Config, trainings: list[PlannedTraining]) -> tuple[str, str]:
    """Return a sentence on the disk space that trainings need, and one on why they do not fit, '' if they fit.

    Space of checkpoints that they replace counts as free.
    """
    free = free_on_disk(config) + checkpoint_bytes({each.task.folder for each in trainings})
    kept = sum(each.stored.final_bytes for each in trainings)
    extra = max((each.stored.peak_bytes - each.stored.final_bytes for each in trainings), default=0)
    needed = f"{kept / 1e9:.1f} GB are kept, {extra / 1e9:.1f} GB more are needed during a stage"
    says = f"{needed}, {free / 1e9:.1f} GB are free"
    if kept + extra <= free:
        return says, ""
    fix = "free some space, or --set run.folder=<DIR> on another one"
    return says, f"{config.run.folder}: the disk is too small: {says}; {fix}"


def free_on_disk(config: Config) -> int:
    """Return the bytes that are free on the disk of the run folders."""
    root = Path(config.run.folder).absolute()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def checkpoint_bytes(folders: Iterable[Path]) -> int:
    """Return the bytes of the checkpoints in folders, each file once, whatever its names.

    Another process may replace a checkpoint meanwhile: a file that is gone by now has no bytes.
    """
    sizes = {}
    for file in (file for folder in folders for file in folder.glob("*.pth")):
        with suppress(FileNotFoundError):
            stat = file.stat()
            sizes[stat.st_ino] = stat.st_size
    return sum(sizes.values())


def stored_by(config: Config, stage: str) -> Stored:
    """Return the bytes of the checkpoints of a stage, base or meta."""
    text_width = NAME_VECTOR_WIDTH if class_of(config.model).reads_text else 0
    with torch.device("meta"):  # sizes without memory
        model = build_model(config, text_width)
        network = model.base_stage() if stage == "base" else model
    return Stored.of(network, getattr(config, f"{stage}_stage"))


def _length(task: StageTask) -> int:
    """Return the number of examples of an epoch; without the data the published or largest number; 0 if not known."""
    data, stage = task.config.data, task.settings
    with suppress(UserError):
        return stage.epoch_length or epoch_length(stage, listed_for_training(task.config, stage))
    if stage.list_file:
        return 0
    published_length = published(data, "train") if stage.images != "all" else 0
    if published_length:
        return published_length
    return whole(data.name, data.train_list or "")
