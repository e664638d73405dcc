"""What a training's command asks for: its stages, and what the folder of each holds of it already."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from model.contract import FewShotMethod, Trainable
from model.registry import class_of
from util.config.folds import MAX_INDEX, has_class_maps
from util.config.place import ENVIRONMENT
from util.config.settings import Config, StageSettings
from util.files.errors import UserError
from util.run.folder import BEST, StageFolder
from util.run.initial_weights import why_refused
from util.run.run import ALLOW, Run
from util.weights import checkpoint


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
        raise UserError(
            f"{config.source}: {run.model_class.title} has only the {' and '.join(run.stages)} stage",
            fix=f"leave out --stage {asked.stage}",
        )
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
        return (
            f"{model_class.title} learns from maps of at most {MAX_INDEX} base classes; data set {data.name} has masks "
            f"of one class each and no folds, or more classes; {fix}"
        )
    return f"data set {data.name} is for tests: data.train_list is null; {fix}" if data.train_list is None else ""


def _needs_none(run: Run) -> str:
    """Return why a run that is resumed needs no training; '' if it needs one."""
    if not run.model_class.learns:
        return "this method has nothing to train"
    if run.tested_folder != run.folder("meta") and StageFolder(run.tested_folder).finished:
        return f"{run.tested_folder / BEST} serves any number of shots"
    return ""


def _lacking_stages(run: Run, asked: Asked) -> list[str]:
    """Return the stages to train: without the base stage if the meta stage does not need it.

    It does not need it with a checkpoint of a base stage, or if it continues. A finished base stage is kept in the
    list even then, so that one which was trained otherwise is refused.
    """
    meta = run.stage_folder("meta")
    continues = asked.resume and (meta.begun or meta.finished)
    needs_base = asked.checkpoint is None and (not continues or run.stage_folder("base").finished)
    return run.stages if needs_base else ["meta"]


def stage_of(run: Run, stage: str, asked: Asked) -> StageTask:
    """Return the task of a run's stage as a command asks for it, with a refusal if its folder has another training.

    With changes, a finished training goes on only if an observer ended it.
    """
    files = run.stage_folder(stage)
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
        refusal = "" if may_differ else why_refused(run, stage, stored, finished)
        facts = stored.training[-1]
        if not finished:
            return replace(task, state=f"step {facts['step']} of {facts['steps']}", refusal=refusal)
        stated = [f"{key} {facts[key]}" for key in ("steps", "batch", "size", "seed")]
        if files.has_steps_left:
            stated[0] = f"ended before step {facts['steps']}, {ALLOW} continues it"
        return replace(task, state=", ".join([*stated, *run.shared(stored)]), finished=True, refusal=refusal)
    except UserError as error:
        return replace(task, state="no training", refusal=f"{error}; start again by train.sh --overwrite")


def trained_part(model: FewShotMethod, stage: str) -> Trainable:
    """Return the part of a model that a stage trains."""
    return model.base_stage() if stage == "base" else model
