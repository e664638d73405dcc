"""The plan of a command, for ``--dry-run``: its stages, their state, steps, batches, rough hours, disk, refusals.

Hours are of trainings and tests without validations: the operations of a pass are counted on tensors without memory,
and a device is as fast at them as at ResNet-50 on images of 224 px, of which ``--device-speed`` says how many a second.
"""

from __future__ import annotations

import math
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch
from torchvision.models import resnet50

from util.checkpoints.checkpoint import Stored, free_bytes
from util.config.settings import Config
from util.errors import EXIT_USER_ERROR, UserError
from util.launch.tasks import Task
from util.prepare.check import PUBLISHED_SIZES
from util.prepare.lists import published
from util.progress import ProgressBar
from util.report.table import Table
from util.run.context import with_data
from util.run.data import epoch_length, listed_for_training
from util.run.device import CUDA, gpu_count, pick_device, precision_of_training
from util.run.input_size import view_of
from util.run.network import prepare_network
from util.train.benchmark_pass import BenchmarkPass
from util.train.optim import StepSchedule

COLUMNS = ["config", "stage", "state", "steps", "px", "batch x processes", "hours", "disk GB"]
UNIT_SIDE, UNIT_FLOPS = 224, 8.18e9  # ResNet-50's, a multiplication and an addition being two


def plan(tasks: list[Task], refused: list[str], gpus: int, speed: float | None) -> int:
    """Print the tasks of a command, those of one folder once, and its refusals; return 0, or 2 if there are some.

    ``speed``: images of 224 px a second through ResNet-50; None: those of this machine.
    """
    if not tasks:
        return refuse(refused)
    config, refused = tasks[0].config, [*(task.refusal for task in tasks), *refused]
    images = speed or images_a_second(config, pick_device(CUDA if gpus and gpu_count() else "cpu"))
    once, rows, costs = dict[tuple, Task](), list[list[str]](), dict[str, tuple[float, Stored]]()
    notes, hours, stay, most = list[str](), list[float](), 0, 0
    for task in tasks:
        once.setdefault((task.stage, task.folder), task)
    for task in ProgressBar(once.values(), "counting", unit="stage", leave=False):
        try:
            cells, case, number = described(task)
        except UserError as error:
            refused.append(str(error))
            continue
        if (key := repr((case.config.model, str(case)))) not in costs:
            costs[key] = case.counted()
        flops, stored = costs[key]
        hours.append(flops * number * task.left / (images * UNIT_FLOPS * 3600) if task.left else 0.0)
        if case.trains and task.left:
            stay, most = stay + stored.remain, max(most, stored.most - stored.remain)
            notes.append(task.note)
        rows.append([*cells, f"{hours[-1]:.2f}".replace("nan", "?"), f"{stored.remain * case.trains / 1e9:.2f}"])
    known, free = [each for each in hours if not math.isnan(each)], free_bytes(config)
    unknown = " beside ?" * (len(known) < len(hours))
    notes.append(f"total: about {sum(known):.1f} hours{unknown}, at {images:.4g} images a second")
    notes.append(f"disk: {stay / 1e9:.1f} GB kept, {most / 1e9:.1f} GB more during a stage, {free / 1e9:.1f} GB free")
    print("\n".join([str(Table(COLUMNS, rows)), *filter(None, dict.fromkeys(notes))]), flush=True)
    if stay + most > free:
        mend = "free some space, or --set run.folder=<DIR> on another one"
        refused.append(f"{config.run.folder}: the disk is too small; {mend}")
    return refuse(refused)


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    for line in (lines := list(dict.fromkeys(filter(None, lines)))):
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if lines else 0


def described(task: Task) -> tuple[list[str], BenchmarkPass, float]:
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


def _length(task: Task) -> int:
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
