"""The plan of a command, for ``--dry-run``: its stages, their state, steps, batches, rough hours, disk, refusals.

Hours are of trainings and tests without validations: the operations of a pass are counted on tensors without memory,
and a device is as fast at them as at ResNet-50 on images of 224 px, of which ``--device-speed`` says how many a second.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from model.registry import class_of
from util.checkpoints.checkpoint import Stored, free_bytes
from util.config.settings import Config
from util.errors import EXIT_USER_ERROR, UserError
from util.launch.tasks import StageTask
from util.prepare.datasets import published_sizes
from util.prepare.lists import published
from util.progress import ProgressBar
from util.report.table import Table
from util.runtime.context import with_data
from util.runtime.data import epoch_length, listed_for_training
from util.runtime.device import CUDA, gpu_count, pick_device, precision_of_training
from util.runtime.input_size import view_of
from util.runtime.network import prepare_network
from util.train.benchmark_pass import BenchmarkPass
from util.train.optim import StepSchedule

COLUMNS = ["config", "stage", "state", "steps", "px", "batch x processes", "hours", "disk GB"]
UNIT_SIDE = 224
UNIT_FLOPS = 8.18e9  # ResNet-50's, a multiplication and an addition being two


@dataclass(frozen=True)
class Workload:
    """The work of a task, all of it."""

    cells: list[str]  # that lead the task's row of the plan
    case: BenchmarkPass  # its pass
    examples: float  # images or episodes that a process passes; NaN: not known


@dataclass(frozen=True)
class Estimate:
    """The estimated hours and bytes of a stage of a plan."""

    method: str  # as people write it
    cells: list[str]  # of its row, without hours and disk
    hours: float  # that are left; NaN: not known
    unknown: str  # why they are not known; '' if they are
    kept_bytes: int  # on the disk after a training
    extra_bytes: int  # more during it
    note: str
    trains: bool  # whether it is a training of which something is left


def plan(tasks: list[StageTask], refused: list[str], gpus: int, speed: float | None) -> int:
    """Print the tasks of a command, those of one folder once, and its refusals; return 0, or 2 if there are some.

    ``speed``: images of 224 px a second through ResNet-50; None: those of this machine.
    """
    if not tasks:
        return refuse(refused)
    config = tasks[0].config
    if speed is None:
        speed = images_a_second(config, pick_device(CUDA if gpus and gpu_count() else "cpu"))
    estimates, errors = estimated(tasks, speed * UNIT_FLOPS * 3600)
    rows = [[*each.cells, _number(each.hours), f"{each.kept_bytes / 1e9:.2f}"] for each in estimates]
    trainings = [each for each in estimates if each.trains]
    notes = dict.fromkeys(each.note for each in trainings if each.note)
    free = free_bytes(config)
    kept, extra = _disk_use(trainings)
    disk = f"disk: {kept / 1e9:.1f} GB kept, {extra / 1e9:.1f} GB more during a stage, {free / 1e9:.1f} GB free"
    print("\n".join([str(Table(COLUMNS, rows)), *notes, *hours_in_words(estimates, speed), disk]), flush=True)
    refused = [*(task.refusal for task in tasks), *refused, *errors]
    if kept + extra > free:
        fix = "free some space, or --set run.folder=<DIR> on another one"
        refused.append(f"{config.run.folder}: the disk is too small; {fix}")
    return refuse(refused)


def _disk_use(trainings: list[Estimate]) -> tuple[int, int]:
    """Return the bytes that trainings leave, and those that one of them needs beside them at most."""
    kept = sum(each.kept_bytes for each in trainings)
    extra = max((each.extra_bytes for each in trainings), default=0)
    return kept, extra


def estimated(tasks: list[StageTask], flops_an_hour: float) -> tuple[list[Estimate], list[str]]:
    """Return what each stage takes, those of one folder once, and the errors of stages that cannot be described."""
    tasks_by_folder = dict[tuple[str, Path], StageTask]()
    for task in tasks:
        tasks_by_folder.setdefault((task.stage, task.folder), task)
    costs = dict[str, tuple[float, Stored]]()
    estimates = list[Estimate]()
    errors = list[str]()
    for task in ProgressBar(tasks_by_folder.values(), "counting", unit="stage", leave=False):
        try:
            work = workload(task)
        except UserError as error:
            errors.append(str(error))
            continue
        key = repr((work.case.config.model, str(work.case)))
        if key not in costs:
            costs[key] = work.case.counted()
        flops, stored = costs[key]
        estimates.append(_estimate(task, work, flops * work.examples / flops_an_hour, stored))
    return estimates, errors


def _estimate(task: StageTask, work: Workload, hours: float, stored: Stored) -> Estimate:
    """Return the estimate of a task, which takes so many hours in all."""
    trains = work.case.trains
    left = hours * task.left if task.left else 0.0
    unknown = ""
    if math.isnan(left):
        unknown = "needs the data" if math.isnan(work.examples) else "its work depends on the photos"
    return Estimate(
        method=class_of(task.config.model).title,
        cells=work.cells,
        hours=left,
        unknown=unknown,
        kept_bytes=stored.final_bytes if trains else 0,
        extra_bytes=stored.peak_bytes - stored.final_bytes if trains else 0,
        note=task.note,
        trains=trains and task.left > 0,
    )


def _number(hours: float) -> str:
    return "?" if math.isnan(hours) else f"{hours:.2f}"


def hours_in_words(estimates: list[Estimate], images: float) -> list[str]:
    """Return a line with the hours of each method, if there are several, and one with those of all."""
    by_method = dict[str, list[Estimate]]()
    for each in estimates:
        by_method.setdefault(each.method, []).append(each)
    lines = list[str]()
    unknown_methods = list[str]()
    for method, stages in by_method.items():
        line = f"{method}: {_known_hours(stages):.1f} hours"
        unknown = [each for each in stages if each.unknown]
        if unknown:
            reasons = ", ".join(dict.fromkeys(each.unknown for each in unknown))
            names = ", ".join(dict.fromkeys(each.cells[1] for each in unknown))
            line += f", plus stages of unknown length: {names} ({reasons})"
            unknown_methods.append(f"{method} ({reasons})")
        lines.append(line)
    total = f"total: about {_known_hours(estimates):.1f} hours"
    if unknown_methods:
        total += f", plus stages of unknown length: {', '.join(unknown_methods)}"
    if len(by_method) == 1:
        lines = []
    return [*lines, total, f"speed: {images:.4g} images a second"]


def _known_hours(estimates: list[Estimate]) -> float:
    return math.fsum(each.hours for each in estimates if not each.unknown)


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    refusals = dict.fromkeys(filter(None, lines))
    for line in refusals:
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if refusals else 0


def workload(task: StageTask) -> Workload:
    """Return the work of a task; UserError: the batch is too small."""
    return _workload_of_test(task) if task.stage == "test" else _workload_of_training(task)


def _workload_of_test(task: StageTask) -> Workload:
    config = task.config
    test = config.test
    protocol = config.protocols[test.protocol]
    side = view_of(config, protocol).side or config.data.size
    seeds = len(test.seeds or protocol.seeds)
    episodes = test.episodes or protocol.number(config.data.fold) or math.nan
    batch = test.batch if isinstance(test.batch, int) else 1
    return Workload(
        cells=[
            f"{_config_name(config)}, {config.data.shot}-shot",
            f"test by {test.protocol}",
            task.state,
            f"{seeds} x {episodes}",
            str(side),
            f"{test.batch} x {task.processes}",
        ],
        case=BenchmarkPass(with_data(config, size=side), batch, base=False, trains=False),
        examples=seeds * episodes / task.processes * protocol.ways * test.passes(config.data.shot),
    )


def _workload_of_training(task: StageTask) -> Workload:
    config = task.config
    stage = task.settings
    side = config.stage_size(stage)
    length = _length(task)
    schedule = StepSchedule.from_settings(stage, length, task.processes, f"{task.stage}_stage")
    batch = schedule.batch / task.processes
    steps = "?"
    examples = math.nan
    if length:
        steps = str(schedule.steps)
        share_of_epochs = min(1.0, (stage.typical_epochs or stage.epochs) / stage.epochs)
        examples = schedule.steps * batch * share_of_epochs
    is_base = task.stage == "base"
    shots = "" if is_base else f", {config.data.shot}-shot"
    parts = f" in {stage.accumulate} parts" if stage.accumulate > 1 else ""
    return Workload(
        cells=[
            f"{_config_name(config)}{shots}",
            task.stage,
            task.state,
            steps,
            str(side),
            f"{batch:.3g}{parts} x {task.processes}",
        ],
        case=BenchmarkPass(with_data(config, size=side), math.ceil(batch / stage.accumulate), is_base, trains=True),
        examples=examples,
    )


def _config_name(config: Config) -> str:
    """Return the path of a config, and the name of its run if that is another."""
    return config.path if config.run.name == Path(config.path).stem else f"{config.path} as {config.run.name}"


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
    return published_sizes(data.name).get(Path(data.train_list or "").stem, 0)


def images_a_second(config: Config, device: torch.device) -> float:
    """Return how many images of 224 px a device takes through ResNet-50 in a second, in a training's precision."""
    from torchvision.models import resnet50  # takes seconds, which a command that measures nothing saves

    prepared = prepare_network(resnet50().eval(), device, precision_of_training(config, device))
    batch = 1 if device.type == "cpu" else 32
    images = torch.zeros(batch, 3, UNIT_SIDE, UNIT_SIDE, device=device)
    seconds = list[float]()
    with torch.inference_mode(), prepared.autocast():
        for _ in range(3):
            start = time.perf_counter()
            prepared.network(images).sum().item()  # which waits for a GPU
            seconds.append(time.perf_counter() - start)
    return batch / min(seconds)
