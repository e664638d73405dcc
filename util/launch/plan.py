"""The plan of a command, for ``--dry-run``: its stages, what is there, steps, batches, hours, memory, disk, refusals.

The operations of every training step and evaluation are counted by a pass on tensors without memory. How many of them a
second are done is measured in passes of the network's own encoder on this machine; another device is as many times as
fast as it takes more images of 224 px a second through ResNet-50, its ``--device-speed``.
"""

import argparse
import math
import sys
from contextlib import suppress
from itertools import starmap
from pathlib import Path

from tqdm import tqdm

from model.encoders.registry import title_of
from model.registry import class_of
from util.checkpoints.space import free_bytes
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import Config, StageSettings
from util.data.lists.files import read_fold_list
from util.data.lists.index import load_index
from util.data.sampling import SHUFFLED_PAIRS
from util.errors import EXIT_USER_ERROR, UserError
from util.launch.cost import Case, Machine
from util.launch.stages import Task, training_images
from util.prepare.lists import published
from util.prepare.needs import PUBLISHED_SIZES, Finding, Needs
from util.report.table import Table
from util.run.context import with_data
from util.run.data import epoch_length
from util.run.device import CUDA, gpu_count, pick_device
from util.run.input_size import view_of
from util.train.optim import StepSchedule

COLUMNS = ["config", "stage", "there", "steps", "px", "batch x processes", "hours", "GiB each", "disk GB"]
GIB, GB = 2**30, 1e9


def plan_training(tasks: list[Task], gpus: int, asked: argparse.Namespace) -> int:
    """Print what ``train.sh`` would do, whose stages these are; return 0, or 2 if it would refuse."""
    starts = tasks[0].left == 1 and asked.checkpoint is None  # from the encoder's weights
    found = [found for found in Needs().of(tasks[0].config) if starts or not found.what.startswith("weights")]
    return plan(tasks, in_words(found), gpus, asked.device_speed)


def in_words(findings: list[Finding]) -> list[str]:
    """Return a line for each prerequisite that is not met; one that several methods share is named once."""
    lines = {(f.says, f.mend): f"{f.what}: {f.says.partition(';')[0]}; {f.mend}" for f in findings if not f.fine}
    return [*lines.values()]


def plan(tasks: list[Task], refused: list[str], gpus: int, speed: float | None) -> int:
    """Print the tasks of a command, those of one folder once, and its refusals; return 0, or 2 if there are some.

    Args:
        speed: images of 224 px a second through ResNet-50; None: those of this machine.
    """
    if not tasks:
        return refuse(refused)
    device = pick_device(CUDA if gpus and gpu_count() else "cpu")
    machine = Machine(device, speed, tasks[0].config.run.precision)
    refused = [*(task.refusal for task in tasks), *refused]
    rows, stay, most = list[list[str]](), 0, 0
    methods: dict[str, list[tuple[Task, float]]] = {}  # each task with its hours
    first = {(task.stage, task.folder): task for task in reversed(tasks)}
    for task in tqdm([t for t in tasks if t is first[t.stage, t.folder]], "counting", unit="stage", leave=False):
        try:
            cells, passes = described(task)
        except UserError as error:
            refused.append(str(error))
            continue
        costs = [machine.cost(case) for case, _ in passes]
        took = sum(machine.hours(case, number * task.left) for case, number in passes) if task.left else 0.0
        name = f"{class_of(task.config.model).title} {title_of(task.config.model.backbone())}".strip()
        methods.setdefault(name, []).append((task, 0.0 if math.isnan(took) else took))
        stored, trains = costs[0].stored, passes[0][0].trains
        if trains and task.left:
            stay, most = stay + stored.remain, max(most, stored.most - stored.remain)
        figures = took, max(cost.memory for cost in costs) / GIB, stored.remain * trains / GB
        rows.append([*cells, *map(_figure, figures)])
    print(Table(COLUMNS, rows))
    source = "of --device-speed" if speed else "of a GPU here" if machine.gpu else "of this machine's processor"
    for line in dict.fromkeys([*(task.note for task in tasks if task.left), *starmap(_summary, methods.items())]):
        print(line, end="\n" * bool(line))
    known, beside = sum(h for of in methods.values() for _, h in of), " beside ?" if any("?" in r for r in rows) else ""
    print(f"in all {known:.1f} hours{beside} at {machine.speed:.4g} images a second, {source}")
    config, free = tasks[0].config, free_bytes(tasks[0].config)
    print(f"disk: {stay / GB:.1f} GB stay, {most / GB:.1f} more during a stage, {free / GB:.1f} are free", flush=True)
    if stay + most > free:
        mend = "free some space, or --set run.folder=<DIR> on another one"
        refused.append(f"{config.run.folder}: the disk is too small; {mend}")
    return refuse(refused)


def _summary(name: str, tasks: list[tuple[Task, float]]) -> str:
    """Return a line about a method: hours, what its trainings may be shorter by, the protocol that scores it."""
    told, config = [f"{name}: {sum(hours for _, hours in tasks):.1f} hours"], tasks[0][0].config
    trained = [task.settings for task, _ in tasks if task.stage != "test" and task.left]
    told += [
        f"trainings counted to epoch {s.counted} of {s.epochs}, about where published ones were stopped"
        for s in trained
        if s.counted < s.epochs
    ]
    told += ["at most: patience may end its trainings before" for s in trained if s.patience]
    own = read_config(config.path).test.protocol
    scored = (task.config.test.protocol for task, _ in tasks if task.stage == "test")
    told += [f"scored by {by}" + (f", its own protocol is {own}" if by != own else "") for by in scored]
    return "; ".join(dict.fromkeys(told))


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    for line in (lines := list(dict.fromkeys(filter(None, lines)))):
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if lines else 0


def described(task: Task) -> tuple[list[str], list[tuple[Case, float]]]:
    """Return the leading cells of a task's row, and the passes of a process with the images or episodes of each.

    Raises:
        UserError: the batch is too small.
    """
    config, test, count = task.config, task.config.test, task.processes
    if task.stage == "test":
        protocol = config.protocols[test.protocol]
        side, seeds = view_of(config, protocol).side or config.data.size, len(test.seeds or protocol.seeds)
        episodes = test.episodes or protocol.number(config.data.fold) or math.nan
        number = (
            seeds
            * (math.ceil(episodes / count) if episodes > 0 else episodes)
            * protocol.ways
            * test.passes(config.data.shot)
        )
        passes = [(Case(with_data(config, size=side), test.batch, False, False), float(number))]
        name, steps, share = f"test by {test.protocol}", f"{seeds} x {episodes}", f"{test.batch}"
    else:
        stage, is_base, side = task.settings, task.stage == "base", config.stage_size(task.settings)
        length = _length(config, stage)
        schedule = StepSchedule.from_settings(stage, length, count, f"{task.stage}_stage")
        name, steps, each = task.stage, str(schedule.steps if length else "?"), schedule.batch / count
        share = f"{each:.3g} in {stage.accumulate} parts" if stage.accumulate > 1 else f"{each:.3g}"
        counted = stage.counted / stage.epochs
        sized, trained = with_data(config, size=side), schedule.steps * each * counted if length else math.nan
        passes = [(Case(sized, math.ceil(each / stage.accumulate), is_base, True), trained)]
        if stage.validate_every:
            validations = math.ceil(stage.epochs / stage.validate_every) * (1 + stage.validate_midway)
            held_out = min(stage.validate_episodes, _held_out(config)) if is_base else stage.validate_episodes
            seen = Case(sized if is_base else config, test.batch, is_base, False)
            passes.append((seen, counted * float(validations * math.ceil(held_out / count))))
    where = config.path if config.run.name == Path(config.path).stem else f"{config.path} as {config.run.name}"
    where += f", {config.data.shot}-shot" if task.stage != "base" else ""
    return [where, name, task.there, steps, str(side), f"{share} x {count}"], passes


def _figure(value: float) -> str:
    return "?" if math.isnan(value) else f"{value:.2f}" if value else "-"


def _length(config: Config, stage: StageSettings) -> int:
    """Return the examples of an epoch; of data that are missing as published, or at most all; 0 if not known."""
    data = config.data
    if stage.epoch_length:
        return stage.epoch_length
    with suppress(UserError):
        return epoch_length(stage, training_images(config, stage))
    if stage.list_file and stage.images != "all":
        stems = read_fold_list(stage.list_file, Fold.of(data)).stems
        return len(stems if stage.query == SHUFFLED_PAIRS else set(stems))
    return (published(data, "train") if stage.images != "all" else 0) or _published_size(config, data.train_list)


def _held_out(config: Config) -> int:
    """Return the most images that can validate the base stage."""
    with suppress(UserError):
        return len(load_index(config.data, "test", False))
    return _published_size(config, config.data.test_list)


def _published_size(config: Config, listed: str | None) -> int:
    return PUBLISHED_SIZES.get(config.data.name, {}).get(Path(listed or "").stem, 0)
