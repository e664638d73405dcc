"""The plan of a command, for ``--dry-run``: its stages, what is there, steps, batches, rough hours, disk, refusals.

Hours are of trainings and tests without validations: the operations of a pass are counted on tensors without memory,
and a device is as fast at them as at ResNet-50 on images of 224 px, of which ``--device-speed`` says how many a second.
"""

import argparse
import math
import sys
from contextlib import suppress
from pathlib import Path

from tqdm import tqdm

from model.encoders.registry import title_of
from model.registry import class_of
from util.checkpoints.space import Stored, free_bytes
from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import Config, StageSettings
from util.data.lists.files import read_fold_list
from util.data.sampling import SHUFFLED_PAIRS
from util.errors import EXIT_USER_ERROR, UserError
from util.launch.cost import UNIT_FLOPS, Case, images_a_second
from util.launch.stages import Task, training_images
from util.prepare.check import PUBLISHED_SIZES, Finding, Needs
from util.prepare.lists import published
from util.report.table import Table
from util.run.context import with_data
from util.run.data import epoch_length
from util.run.device import CUDA, gpu_count, pick_device
from util.run.input_size import view_of
from util.train.optim import StepSchedule

COLUMNS = ["config", "stage", "there", "steps", "px", "batch x processes", "hours", "disk GB"]
GB = 1e9


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
    config, refused = tasks[0].config, [*(task.refusal for task in tasks), *refused]
    images = speed or images_a_second(pick_device(CUDA if gpus and gpu_count() else "cpu"), config.run.precision)
    rows, stay, most, told, costs = list[list[str]](), 0, 0, list[str](), dict[str, tuple[float, Stored]]()
    hours, words = dict[str, float](), dict[str, list[str]]()  # of each method
    first = {(task.stage, task.folder): task for task in reversed(tasks)}
    for task in tqdm([t for t in tasks if t is first[t.stage, t.folder]], "counting", unit="stage", leave=False):
        try:
            cells, case, number = described(task)
        except UserError as error:
            refused.append(str(error))
            continue
        if (key := repr((case.config.model, str(case)))) not in costs:
            costs[key] = case.counted()
        flops, stored = costs[key]
        took = flops * number * task.left / (images * UNIT_FLOPS * 3600) if task.left else 0.0
        name = f"{class_of(task.config.model).title} {title_of(task.config.model.backbone())}".strip()
        hours[name] = hours.get(name, 0.0) + (0.0 if math.isnan(took) else took)
        words.setdefault(name, []).extend(_told(task))
        if case.trains and task.left:
            stay, most = stay + stored.remain, max(most, stored.most - stored.remain)
            told += [task.note]
        rows.append([*cells, *map(_figure, (took, stored.remain * case.trains / GB))])
    print(Table(COLUMNS, rows))
    told += [f"{name}: {'; '.join(dict.fromkeys([f'{hours[name]:.1f} hours', *words[name]]))}" for name in hours]
    whole, source = f"{sum(hours.values()):.1f}", "--device-speed" if speed else "measured here"
    whole += " hours" + " beside ?" * any("?" in row for row in rows)
    told.append(f"in all {whole}, roughly, at {images:.4g} images a second, {source}")
    free = free_bytes(config)
    told.append(f"disk: {stay / GB:.1f} GB stay, {most / GB:.1f} more during a stage, {free / GB:.1f} are free")
    print("\n".join(filter(None, dict.fromkeys(told))), flush=True)
    if stay + most > free:
        mend = "free some space, or --set run.folder=<DIR> on another one"
        refused.append(f"{config.run.folder}: the disk is too small; {mend}")
    return refuse(refused)


def _told(task: Task) -> list[str]:
    """Return what a method's line says of a task: what its training may be shorter by, the protocol that scores it."""
    if task.stage == "test":
        by, own = task.config.test.protocol, read_config(task.config.path).test.protocol
        return [f"scored by {by}" + (f", its own protocol is {own}" if by != own else "")]
    stage, at_most = task.settings, "at most: patience may end its trainings before"
    shorter = f"trainings counted to epoch {stage.counted} of {stage.epochs}, about where published ones were stopped"
    return [shorter] * (stage.counted < stage.epochs) + [at_most] * bool(stage.patience) if task.left else []


def refuse(lines: list[str]) -> int:
    """Print what a command refuses, each line once; return 0, or 2 if there is any."""
    for line in (lines := list(dict.fromkeys(filter(None, lines)))):
        print(f"error: {line}", file=sys.stderr)
    return EXIT_USER_ERROR if lines else 0


def described(task: Task) -> tuple[list[str], Case, float]:
    """Return the leading cells of a task's row, its pass, and the images or episodes that a process passes.

    Raises:
        UserError: the batch is too small.
    """
    config, test, count = task.config, task.config.test, task.processes
    if task.stage == "test":
        protocol = config.protocols[test.protocol]
        side, seeds = view_of(config, protocol).side or config.data.size, len(test.seeds or protocol.seeds)
        episodes = test.episodes or protocol.number(config.data.fold) or math.nan
        number = seeds * episodes / count * protocol.ways * test.passes(config.data.shot)
        name, steps, share, batch = f"test by {test.protocol}", f"{seeds} x {episodes}", f"{test.batch}", test.batch
    else:
        stage, side = task.settings, config.stage_size(task.settings)
        length = _length(config, stage)
        schedule = StepSchedule.from_settings(stage, length, count, f"{task.stage}_stage")
        name, steps, each = task.stage, str(schedule.steps if length else "?"), schedule.batch / count
        share = f"{each:.3g} in {stage.accumulate} parts" if stage.accumulate > 1 else f"{each:.3g}"
        number = schedule.steps * each * stage.counted / stage.epochs if length else math.nan
        batch = math.ceil(each / stage.accumulate)
    case = Case(with_data(config, size=side), batch, task.stage == "base", task.stage != "test")
    where = config.path if config.run.name == Path(config.path).stem else f"{config.path} as {config.run.name}"
    where += f", {config.data.shot}-shot" if task.stage != "base" else ""
    return [where, name, task.there, steps, str(side), f"{share} x {count}"], case, number


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
    listed = PUBLISHED_SIZES.get(data.name, {}).get(Path(data.train_list or "").stem, 0)
    return (published(data, "train") if stage.images != "all" else 0) or listed
