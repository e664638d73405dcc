"""The rehearsal of a training: before its first step, its stages begin by the code that will do them.

The network has no memory for its tensors; lists, episodes, optimisers, schedule, start weights and room on the disk are
those of the training. Independent refusals are said together. ``--dry-run`` ends here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch

from model.contract import FewShotMethod, Trainable
from model.registry import class_of
from util.config.compose import files_of
from util.config.folds import MAX_INDEX, has_class_maps
from util.config.place import ENVIRONMENT
from util.config.settings import Config, DataSettings, StageSettings
from util.data.draws import published_length
from util.data.lists.image_list import ImageList
from util.data.lists.index import load_index
from util.data.lists.listed import read_list
from util.data.sampling import SHUFFLED_PAIRS
from util.data.words.text import NAMES, NO_TEXT
from util.files.errors import Refusals, UserError
from util.files.table import Table
from util.loop.mask_metrics import check_metrics
from util.loop.optim import StepSchedule, build_optimizers
from util.run.build import build_model
from util.run.data import epoch_length, stage_data
from util.run.disk import Stored, room
from util.run.folder import BEST, StageFolder
from util.run.run import ALLOW, Run
from util.run.start import fill_at_start, why_not_used
from util.weights import checkpoint

COLUMNS = ["run", "stage", "state", "images", "steps", "px", "batch x processes", "disk GB"]

Made = TypeVar("Made")


@dataclass(frozen=True)
class Asked:
    """The options of a training's command that are not in its config."""

    resume: bool = False  # continue the stages that were begun
    overwrite: bool = False  # discard an earlier run in the folder
    allow_changes: bool = False  # continue although settings that decide the result changed
    checkpoint: str | None = None  # a base stage's, instead of the run's
    stage: str | None = None  # only base or meta; None: all that are not finished


@dataclass(frozen=True)
class StageTask:
    """A stage of a training, with its state."""

    stage: str  # base or meta
    settings: StageSettings
    folder: Path  # of its files
    state: str = ""  # what has been done, in words; '': nothing
    finished: bool = False  # whether it has been trained, and stays as it is
    refusal: str = ""  # why it cannot begin, continue or stay; '': it can
    continues: bool = False  # whether it continues from a checkpoint
    discards: bool = False  # whether it discards an earlier run in its folder


def stages_asked(config: Config, asked: Asked) -> tuple[Run, list[str]]:
    """Return the run and its stages; a resumed run has the options that it was begun with."""
    run = Run(config)
    if asked.resume and (is_done := _needs_none(run)):
        print(f"{config.source}: {is_done}", flush=True)
        return run, []
    _check_method(config, asked)
    if asked.resume:
        newest = "meta" if (run.folder("meta") / ENVIRONMENT).exists() else "base"  # perhaps without a checkpoint yet
        run = run.with_training_options(asked.stage or newest)
    if asked.stage is None:
        return run, _lacking_stages(run, asked)
    if asked.stage not in run.stages:
        has = f"{run.model_class.title} has only the {' and '.join(run.stages)} stage"
        raise UserError(f"{config.source}: {has}; leave out --stage {asked.stage}")
    return run, [asked.stage]


def _check_method(config: Config, asked: Asked) -> None:
    """Refuse (UserError) a method without training, with a data set that it cannot learn from, or no base stage."""
    if problem := _why_untrainable(config):
        raise UserError(f"{config.source}: {problem}")
    if asked.checkpoint and (asked.stage == "base" or not class_of(config.model).has_base_stage()):
        raise UserError(
            f"{asked.checkpoint}: only the stage after a base stage starts from a checkpoint",
            fix="leave the checkpoint out; to continue a training write --resume",
        )


def _why_untrainable(config: Config) -> str:
    """Explain why a method cannot be trained, or not on a data set, and the fix; '' if it can."""
    data = config.data
    model_class = class_of(config.model)
    fix = "take another data set or method"
    if not model_class.learns:
        return "this method has nothing to train; test it with test.sh"
    if model_class.reads_base_labels and not has_class_maps(data):
        has = f"data set {data.name} has masks of one class each and no folds, or more classes"
        return f"{model_class.title} learns from maps of at most {MAX_INDEX} base classes; {has}; {fix}"
    return f"data set {data.name} is for tests: data.train_list is null; {fix}" if data.train_list is None else ""


def _needs_none(run: Run) -> str:
    """Return why a run that is resumed needs no training; '' if it needs one."""
    if not run.model_class.learns:
        return "this method has nothing to train"
    if run.trained != run.folder("meta") and StageFolder(run.trained).finished:
        return f"{run.trained / BEST} serves any number of shots"
    return ""


def _lacking_stages(run: Run, asked: Asked) -> list[str]:
    """Return the stages to train: without the base stage if the meta stage does not need it.

    It does not need it with a checkpoint of a base stage, or if it continues. A finished base stage is kept in the
    list even then, so that one which was trained otherwise is refused.
    """
    stages = run.stages
    meta = run.at("meta")
    continues = asked.resume and (meta.begun or meta.finished)
    needs_base = asked.checkpoint is None and (not continues or run.at("base").finished)
    return stages if needs_base or "meta" not in stages else ["meta"]


def stage_of(run: Run, stage: str, asked: Asked) -> StageTask:
    """Return the task of a run's stage as a command asks for it, with a refusal if its folder has another training.

    With changes, a finished training goes on only if an observer ended it.
    """
    files = run.at(stage)
    is_asked = stage in (asked.stage, "meta")
    may_differ = asked.allow_changes and (not is_asked or files.has_steps_left)
    finished = files.finished and not (is_asked and may_differ)
    task = _task_there(run, stage, files, finished=finished, may_differ=may_differ)
    if _is_kept(task, asked, is_asked=is_asked, is_shared=bool(run.config.run.base_folder)):
        return task
    if files.begun and asked.resume:
        return replace(task, continues=True)
    if asked.overwrite:
        state = task.state and f"{task.state}, discarded"
        return replace(task, state=state, finished=False, refusal="", discards=True)
    return replace(task, refusal=files.why_occupied)


def _is_kept(task: StageTask, asked: Asked, *, is_asked: bool, is_shared: bool) -> bool:
    """Return whether a finished stage is kept: it is resumed, or another is asked for, which does not discard it."""
    return task.finished and (asked.resume or (not is_asked and (is_shared or not asked.overwrite)))


def _task_there(run: Run, stage: str, files: StageFolder, *, finished: bool, may_differ: bool) -> StageTask:
    """Return a stage as the newest checkpoint of its folder leaves it; refused if the run cannot take that."""
    task = StageTask(stage, getattr(run.config, f"{stage}_stage"), files.path)
    if not finished and not files.begun:
        return task
    try:
        stored = checkpoint.read(files.path / BEST) if finished else files.newest()
        if not stored.training:
            raise UserError(f"{files.path}: holds only weights")
        refusal = "" if may_differ else why_not_used(run, stage, stored, finished)
        facts = stored.training[-1]
        if not finished:
            return replace(task, state=f"step {facts['step']} of {facts['steps']}", refusal=refusal)
        stated = [f"{key} {facts[key]}" for key in ("steps", "batch", "size", "seed")]
        if files.has_steps_left:
            stated[0] = f"ended before step {facts['steps']}, {ALLOW} continues it"
        return replace(task, state=", ".join([*stated, *run.shared(stored)]), finished=True, refusal=refusal)
    except UserError as error:
        return replace(task, state="no training", refusal=f"{error}; start again by train.sh --overwrite")


@dataclass
class Rehearsal:
    """The stages of a training as they would begin, and all that would stop them."""

    config: Config
    rows: dict[str, list[str]]  # the cells of each stage in the table of a dry run
    refusals: list[str]  # each once
    stored: list[Stored] = field(default_factory=list)  # bytes of the checkpoints of the stages that have steps left
    disk: str | None = None  # the room on it, in words
    start: str = ""  # what the first of these stages starts from, and what is downloaded for that

    def attempt(self, make: Callable[[], Made]) -> Made | None:
        """Return what a step of the training makes; None: it was refused."""
        try:
            return make()
        except UserError as error:
            if str(error) not in self.refusals:
                self.refusals.append(str(error))
            return None

    def check(self) -> None:
        """Raise what was refused, all at once (UserError)."""
        if self.refusals:
            raise Refusals(self.refusals)

    def __str__(self) -> str:
        """Return the files of the config, a table of the stages, what they start from, and the room on the disk."""
        table = Table(COLUMNS, [cells + [""] * (len(COLUMNS) - len(cells)) for cells in self.rows.values()])
        lines = [f"config: {files_of(self.config.source)}", str(table), self.start, self.disk and f"disk: {self.disk}"]
        return "\n".join(filter(None, lines))


def dry_run(config: Config, asked: Asked, processes: int) -> None:
    """Print what a training by so many processes on all machines would do; UserError: all that would stop it."""
    run, stages = stages_asked(config, asked)
    rehearsal = rehearse(run, stages, processes, asked)
    print(rehearsal, flush=True)
    rehearsal.check()


def rehearse(run: Run, stages: list[str], processes: int, asked: Asked) -> Rehearsal:
    """Begin the stages of a training, one after the other, without memory for a network, and return what came of it."""
    tasks = [stage_of(run, stage, asked) for stage in stages]
    rows = {task.stage: _cells_of(run.config, task) for task in tasks}
    rehearsal = Rehearsal(run.config, rows, [*dict.fromkeys(task.refusal for task in tasks if task.refusal)])
    left = [task for task in tasks if not task.finished]
    if not left:
        return rehearsal
    rehearsal.attempt(partial(check_metrics, run.config.test.metrics, run.config.source))
    read: Callable[[DataSettings, str], Any] = load_index
    if rehearsal.attempt(lambda: run.text_width) is None:  # what follows does not depend on the vectors' values
        run = Run(run.config.with_data(text=NAMES if run.model_class.reads_text else NO_TEXT))
        read = read_list  # an index would take minutes
    rehearsal.attempt(partial(_read_data, run, read))
    for task in left:
        rehearsal.rows[task.stage] += _rehearse_stage(
            rehearsal,
            run,
            task,
            processes,
            has_data=read is load_index,
            base=asked.checkpoint,
            is_first=task is left[0],
        )
    rehearsal.disk = rehearsal.attempt(partial(room, run.config, rehearsal.stored, {task.folder for task in left}))
    return rehearsal


def _cells_of(config: Config, task: StageTask) -> list[str]:
    """Return the first cells of a stage in the table of a dry run."""
    shots = "" if task.stage == "base" else f", {config.data.shot}-shot"
    state = f"finished, {task.state}" if task.finished else task.state or "not begun"
    return [f"{config.run.name}{shots}", task.stage, state]


def _read_data(run: Run, read: Callable[[DataSettings, str], Any]) -> None:
    """Make the indices of a data set's lists where they are not there, under a bar, or read the lists alone."""
    data = run.config.data
    for part in ("train", "test"):
        if getattr(data, f"{part}_list") is not None:
            read(data, part)


def _rehearse_stage(
    rehearsal: Rehearsal,
    run: Run,
    task: StageTask,
    processes: int,
    *,
    has_data: bool,
    base: str | None,
    is_first: bool,
) -> list[str]:
    """Begin a stage: its data, its network, what it starts from if that is now, its optimisers; return further cells.

    There are none where its network cannot be built, and ``?`` stands for what is not known without its data.

    Args:
        rehearsal: of the training, which notes what is refused.
        run: whose stage it is.
        task: the stage.
        processes: their number on all machines.
        has_data: whether indices may be built.
        base: a base stage's checkpoint, instead of the run's.
        is_first: whether no other stage is trained before.
    """
    settings = task.settings
    data = rehearsal.attempt(partial(stage_data, run, task.stage, progress=False)) if has_data else None
    with torch.device("meta"):
        model = rehearsal.attempt(partial(build_model, run.config, run.text_width))
    if model is None:
        return []
    if is_first and not task.continues:  # a later one starts from what an earlier one makes
        start = rehearsal.attempt(partial(fill_at_start, run, model, task.stage, base, downloads=False))
        rehearsal.start = "" if start is None else start.note
    network = trained_part(model, task.stage)
    key = f"{task.stage}_stage"
    rehearsal.attempt(
        lambda: build_optimizers(network.param_groups(), settings.optimizers, f"{run.config.source}: {key}.optimizers")
    )
    rehearsal.stored.append(Stored.of(network, settings))
    images, steps = _extent(rehearsal, run.config, task, None if data is None else data.images, processes)
    parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    return [
        images,
        steps,
        str(run.config.stage_size(settings)),
        f"{settings.batch / processes:g}{parts} x {processes}",
        f"{rehearsal.stored[-1].final_bytes / 1e9:.2f}",
    ]


def _extent(
    rehearsal: Rehearsal, config: Config, task: StageTask, images: ImageList | None, processes: int
) -> tuple[str, str]:
    """Return the cells of a stage's images and steps, ``?`` for what is not known, ``~`` before an estimate."""
    settings = task.settings
    is_published = settings.list_file is None and settings.query != SHUFFLED_PAIRS
    length = published_length(config.data, settings.images == "all") if is_published else 0
    length = (settings.epoch_length or length) if images is None else epoch_length(settings, images)
    make = partial(StepSchedule.from_settings, settings, length, processes, f"{task.stage}_stage")
    schedule = rehearsal.attempt(make)
    about = "" if images or settings.epoch_length else "~"  # by the published list
    steps = f"{about}{schedule.steps}" if schedule and length else "?"
    return ("?" if images is None else str(len(images.queries))), steps


def trained_part(model: FewShotMethod, stage: str) -> Trainable:
    """Return the part of a model that a stage trains."""
    return model.base_stage() if stage == "base" else model
