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
from torchvision.models import resnet50

from model.registry import class_of
from util.checkpoints.checkpoint import Stored, free_bytes
from util.config.settings import Config
from util.errors import EXIT_USER_ERROR, UserError
from util.launch.tasks import StageTask
from util.prepare.check import PUBLISHED_SIZES
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
UNIT_SIDE, UNIT_FLOPS = 224, 8.18e9  # ResNet-50's, a multiplication and an addition being two


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
    images = speed or images_a_second(config, pick_device(CUDA if gpus and gpu_count() else "cpu"))
    estimates, errors = estimated(tasks, images * UNIT_FLOPS * 3600)
    rows = [[*each.cells, _number(each.hours), f"{each.kept_bytes / 1e9:.2f}"] for each in estimates]
    trainings = [each for each in estimates if each.trains]
    notes = dict.fromkeys(each.note for each in trainings if each.note)
    free = free_bytes(config)
    kept = sum(each.kept_bytes for each in trainings)
    extra = max((each.extra_bytes for each in trainings), default=0)
    disk = f"disk: {kept / 1e9:.1f} GB kept, {extra / 1e9:.1f} GB more during a stage, {free / 1e9:.1f} GB free"
    print("\n".join([str(Table(COLUMNS, rows)), *notes, *hours_in_words(estimates, images), disk]), flush=True)
    refused = [*(task.refusal for task in tasks), *refused, *errors]
    if kept + extra > free:
        fix = "free some space, or --set run.folder=<DIR> on another one"
        refused.append(f"{config.run.folder}: the disk is too small; {fix}")
    return refuse(refused)


def estimated(tasks: list[StageTask], flops_an_hour: float) -> tuple[list[Estimate], list[str]]:
    """Return what each stage takes, those of one folder once, and the errors of stages that cannot be described."""
    once = dict[tuple[str, Path], StageTask]()
    for task in tasks:
        once.setdefault((task.stage, task.folder), task)
    costs = dict[str, tuple[float, Stored]]()
    estimates, errors = list[Estimate](), list[str]()
    for task in ProgressBar(once.values(), "counting", unit="stage", leave=False):
        try:
            cells, case, number = described(task)
        except UserError as error:
            errors.append(str(error))
            continue
        key = repr((case.config.model, str(case)))
        if key not in costs:
            costs[key] = case.counted()
        flops, stored = costs[key]
        estimates.append(_estimate(task, cells, case, flops * number / flops_an_hour, math.isnan(number), stored))
    return estimates, errors


def _estimate(
    task: StageTask, cells: list[str], case: BenchmarkPass, hours: float, needs_data: bool, stored: Stored
) -> Estimate:
    left = hours * task.left if task.left else 0.0
    unknown = ""
    if math.isnan(left):
        unknown = "needs the data" if needs_data else "its work depends on the photos"
    return Estimate(
        method=class_of(task.config.model).title,
        cells=cells,
        hours=left,
        unknown=unknown,
        kept_bytes=stored.final_bytes if case.trains else 0,
        extra_bytes=stored.peak_bytes - stored.final_bytes if case.trains else 0,
        note=task.note,
        trains=case.trains and task.left > 0,
    )


def _number(hours: float) -> str:
    return "?" if math.isnan(hours) else f"{hours:.2f}"


def hours_in_words(estimates: list[Estimate], images: float) -> list[str]:
    """Return a line with the hours of each method, if there are several, and one with those of all."""
    by_method = dict[str, list[Estimate]]()
    for each in estimates:
        by_method.setdefault(each.method, []).append(each)
    lines = list[str]()
    unknown = list[str]()
    for method, own in by_method.items():
        reasons = ", ".join(dict.fromkeys(each.unknown for each in own if each.unknown))
        stages = ", ".join(dict.fromkeys(each.cells[1] for each in own if each.unknown))
        lines.append(
            f"{method}: {_known_hours(own):.1f} hours"
            + (f", plus stages of unknown length: {stages} ({reasons})" if reasons else "")
        )
        unknown += [f"{method} ({reasons})"] if reasons else []
    total = f"total: about {_known_hours(estimates):.1f} hours"
    if unknown:
        total += f", plus stages of unknown length: {', '.join(unknown)}"
    lines = lines if len(by_method) > 1 else []
    return [*lines, total, f"speed: {images:.4g} images a second"]


def _known_hours(estimates: list[Estimate]) -> float:
    return math.fsum(each.hours for each in estimates if not each.unknown)


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    for line in (lines := list(dict.fromkeys(filter(None, lines)))):
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if lines else 0


def described(task: StageTask) -> tuple[list[str], BenchmarkPass, float]:
    """Return the leading cells of a task's row, its pass, and the images or episodes that a process passes.

    UserError: the batch is too small.
    """
    config, test, count = task.config, task.config.test, task.processes
    if task.stage == "test":
        protocol = config.protocols[test.protocol]
        side, seeds = view_of(config, protocol).side or config.data.size, len(test.seeds or protocol.seeds)
        episodes = test.episodes or protocol.number(config.data.fold) or math.nan
        number = seeds * episodes / count * protocol.ways * test.passes(config.data.shot)
        name, steps, share = f"test by {test.protocol}", f"{seeds} x {episodes}", f"{test.batch}"
        batch = test.batch if isinstance(test.batch, int) else 1
    else:
        stage, side = task.settings, config.stage_size(task.settings)
        length = _length(task)
        schedule = StepSchedule.from_settings(stage, length, count, f"{task.stage}_stage")
        name, steps, each = task.stage, str(schedule.steps if length else "?"), schedule.batch / count
        share = f"{each:.3g} in {stage.accumulate} parts" if stage.accumulate > 1 else f"{each:.3g}"
        share_of_epochs = min(1.0, (stage.typical_epochs or stage.epochs) / stage.epochs)
        number = schedule.steps * each * share_of_epochs if length else math.nan
        batch = math.ceil(each / stage.accumulate)
    case = BenchmarkPass(with_data(config, size=side), batch, task.stage == "base", task.stage != "test")
    where = config.path if config.run.name == Path(config.path).stem else f"{config.path} as {config.run.name}"
    where += f", {config.data.shot}-shot" if task.stage != "base" else ""
    return [where, name, task.state, steps, str(side), f"{share} x {count}"], case, number


def _length(task: StageTask) -> int:
    """Return the examples of an epoch; of data that are missing as published, or at most all; 0 if not known."""
    data, stage = task.config.data, task.settings
    with suppress(UserError):
        return stage.epoch_length or epoch_length(stage, listed_for_training(task.config, stage))
    if stage.list_file:
        return 0
    listed = PUBLISHED_SIZES.get(data.name, {}).get(Path(data.train_list or "").stem, 0)
    return (published(data, "train") if stage.images != "all" else 0) or listed


def images_a_second(config: Config, device: torch.device) -> float:
    """Return how many images of 224 px a device takes through ResNet-50 in a second, in a training's precision."""
    prepared = prepare_network(resnet50().eval(), device, precision_of_training(config, device))
    network, took = prepared.network, list[float]()
    images = torch.zeros(1 if device.type == "cpu" else 32, 3, UNIT_SIDE, UNIT_SIDE, device=device)
    with torch.inference_mode(), prepared.autocast():
        for _ in range(3):
            started = time.perf_counter()
            network(images).sum().item()  # which waits for a GPU
            took.append(time.perf_counter() - started)
    return len(images) / min(took)
