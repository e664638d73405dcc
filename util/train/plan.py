"""The plan of a command, for ``--dry-run``: its stages, their state, steps, batches, disk, refusals."""

from __future__ import annotations

import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from model.registry import class_of
from util.config.compose import files_of
from util.config.settings import Config
from util.data.lists.published_sizes import published, whole
from util.data.words.text import NAME_VECTOR_WIDTH
from util.files.errors import EXIT_USER_ERROR, UserError
from util.files.progress import ProgressBar
from util.report.table import Table
from util.run.checkpoint import Stored, checkpoint_bytes, free_bytes
from util.run.data import epoch_length, listed_for_training
from util.run.input_size import view_of
from util.run.network import build_model
from util.train.optim import StepSchedule
from util.train.state import StageTask

COLUMNS = ["run", "stage", "state", "steps", "px", "batch x processes", "disk GB"]
NOTHING = Stored(peak_bytes=0, final_bytes=0)


@dataclass(frozen=True)
class PlannedStage:
    """A stage of a plan: its row without the disk, what it writes, and what is to be said of it."""

    cells: list[str]
    stored: Stored
    note: str
    folder: Path
    trains: bool  # whether it is a training of which something is left


def plan(tasks: list[StageTask], refused: list[str]) -> int:
    """Print the tasks of a command, those of one folder once, and its refusals; return 0, or 2 if there are some."""
    if not tasks:
        return refuse(refused)
    stages, errors = planned(tasks)
    rows = [[*each.cells, f"{each.stored.final_bytes / 1e9:.2f}"] for each in stages]
    trainings = [each for each in stages if each.trains]
    notes = dict.fromkeys(each.note for each in trainings if each.note)
    sources = dict.fromkeys(files_of(task.config.source) for task in tasks)
    says, problem = _disk(tasks[0].config, trainings)
    print("\n".join([f"config: {', '.join(sources)}", str(Table(COLUMNS, rows)), *notes, f"disk: {says}"]), flush=True)
    return refuse([*(task.refusal for task in tasks), *refused, *errors, problem])


def check_plan(tasks: list[StageTask]) -> None:
    """Refuse (UserError) trainings that cannot be described, or that do not fit on the disk."""
    stages, errors = planned([task for task in tasks if task.stage != "test" and task.left > 0])
    if stages:
        errors.append(_disk(tasks[0].config, stages)[1])
    for error in filter(None, errors):
        raise UserError(error)


def _disk(config: Config, trainings: list[PlannedStage]) -> tuple[str, str]:
    """Return in words what trainings need of the disk, and why they do not fit on it; '' if they do.

    The checkpoints of their folders are replaced, and count as free.
    """
    free = free_bytes(config) + checkpoint_bytes({each.folder for each in trainings})
    kept = sum(each.stored.final_bytes for each in trainings)
    extra = max((each.stored.peak_bytes - each.stored.final_bytes for each in trainings), default=0)
    needed = f"{kept / 1e9:.1f} GB are kept, {extra / 1e9:.1f} GB more are needed during a stage"
    says = f"{needed}, {free / 1e9:.1f} GB are free"
    if kept + extra <= free:
        return says, ""
    fix = "free some space, or --set run.folder=<DIR> on another one"
    return says, f"{config.run.folder}: the disk is too small: {says}; {fix}"


def planned(tasks: list[StageTask]) -> tuple[list[PlannedStage], list[str]]:
    """Return the stages of a plan, those of one folder once, and the errors of stages that cannot be described."""
    tasks_by_folder = dict[tuple[str, Path], StageTask]()
    for task in tasks:
        tasks_by_folder.setdefault((task.stage, task.folder), task)
    stored = dict[str, Stored]()
    stages = list[PlannedStage]()
    errors = list[str]()
    for task in ProgressBar(tasks_by_folder.values(), "planning", unit="stage", leave=False):
        try:
            stages.append(_planned_test(task) if task.stage == "test" else _planned_training(task, stored))
        except UserError as error:
            errors.append(str(error))
    return stages, errors


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    refusals = dict.fromkeys(filter(None, lines))
    for line in refusals:
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if refusals else 0


def _planned_test(task: StageTask) -> PlannedStage:
    config = task.config
    test = config.test
    protocol = config.protocols[test.protocol]
    seeds = len(test.seeds or protocol.seeds)
    episodes = test.episodes or protocol.number(config.data.fold) or "all"
    cells = [
        f"{config.run.name}, {config.data.shot}-shot",
        f"test by {test.protocol}",
        task.state,
        f"{seeds} x {episodes}",
        str(view_of(config, protocol).side or config.data.size),
        f"{test.batch} x {task.processes}",
    ]
    return PlannedStage(cells, NOTHING, task.note, task.folder, trains=False)


def _planned_training(task: StageTask, known: dict[str, Stored]) -> PlannedStage:
    """Return a training of a plan; ``known`` holds what networks store, and gets what this one does.

    UserError: the batch is too small.
    """
    config = task.config
    stage = task.settings
    length = _length(task)
    schedule = _schedule(task, length)
    shots = "" if task.stage == "base" else f", {config.data.shot}-shot"
    parts = f" in {stage.accumulate} parts" if stage.accumulate > 1 else ""
    cells = [
        f"{config.run.name}{shots}",
        task.stage,
        task.state,
        str(schedule.steps) if length else "?",
        str(config.stage_size(stage)),
        f"{schedule.batch / task.processes:.3g}{parts} x {task.processes}",
    ]
    key = repr((config.model, config.data, stage))
    if key not in known:
        known[key] = stored_by(config, task.stage)
    return PlannedStage(cells, known[key], task.note, task.folder, trains=task.left > 0)


def stored_by(config: Config, stage: str) -> Stored:
    """Return the bytes of the checkpoints of a stage, base or meta."""
    text_width = NAME_VECTOR_WIDTH if class_of(config.model).reads_text else 0
    with torch.device("meta"):  # sizes without memory
        model = build_model(config, text_width)
        network = model.base_stage() if stage == "base" else model
    return Stored.of(network, getattr(config, f"{stage}_stage"))


def _schedule(task: StageTask, length: int) -> StepSchedule:
    """Return the schedule of a training for epochs of so many examples, of which its batch is independent."""
    return StepSchedule.from_settings(task.settings, length, task.processes, f"{task.stage}_stage")


def _length(task: StageTask) -> int:
    """Return the examples of an epoch; of data that are missing as published, or at most all; 0 if not known."""
    data, stage = task.config.data, task.settings
    with suppress(UserError):
        return stage.epoch_length or epoch_length(stage, listed_for_training(task.config, stage))
    if stage.list_file:
        return 0
    published_length = published(data, "train") if stage.images != "all" else 0
    if published_length:
        return published_length
    return whole(data.name, data.train_list or "")
