"""The stages of trainings and the tests of a command: their processes, their state and what is left of them."""

from dataclasses import dataclass, replace
from pathlib import Path

from model.registry import class_of
from util.config.settings import Config, StageSettings
from util.files.errors import UserError
from util.run import checkpoint
from util.run.run import BEST, Run, StageFolder
from util.run.weights import cannot_take
from util.train.optim import least_batch

NOT_BEGUN = "not begun"


@dataclass(frozen=True)
class Asked:
    """The options of a training's command, beside its config."""

    resume: bool = False  # the stages that were begun are continued
    overwrite: bool = False  # what is there is discarded
    allow_changes: bool = False  # settings that decide the result may have changed since
    checkpoint: str | None = None  # of a base stage, in place of the run's own
    stage: str | None = None  # base or meta alone; None: each that is lacking


@dataclass(frozen=True)
class StageTask:
    """A stage of a training (base, meta) or a test, with its state."""

    config: Config
    stage: str
    processes_asked: int  # of all machines
    folder: Path  # of its files
    state: str = NOT_BEGUN  # what has been done, in words
    left: float = 1.0  # the share of its work that is still to be done
    refusal: str = ""  # why it cannot go on from there
    continues: bool = False  # whether it goes on from a checkpoint that is there
    discards: bool = False  # whether it begins anew in a folder that is in use

    @property
    def settings(self) -> StageSettings:
        """The settings of its stage of a training."""
        return getattr(self.config, f"{self.stage}_stage")

    @property
    def processes(self) -> int:
        """The processes that it takes: no more than the batch of a training stage can be split over."""
        if self.stage == "test":
            return self.processes_asked
        least = least_batch(self.settings, f"{self.stage}_stage")
        return min(self.processes_asked, max(self.settings.batch // least, 1))

    @property
    def note(self) -> str:
        """Says that the batch cannot be split over all processes, and what to do; '' if it can."""
        if self.processes == self.processes_asked:
            return ""
        batch = f"{self.stage}_stage.batch = {self.settings.batch}"
        fix = f"take {self.processes} GPUs in all for it (--stage {self.stage})"
        return f"{batch} is too small for {self.processes_asked} processes: {fix}"


def stages_asked(config: Config, asked: Asked) -> tuple[Run, list[str]]:
    """Return the run, of a training that continues with the options that it was begun with, and its stages."""
    run = Run(config)
    if not class_of(config.model).learns:
        raise UserError(f"{config.source}: this method has nothing to train; test it with test.sh")
    if asked.resume:
        begun = "meta" if run.at("meta").started else "base"
        run = run.with_training_options(asked.stage or begun)
    if asked.stage is None:
        return run, _lacking_stages(run, asked)
    if asked.stage == "base" and asked.checkpoint:
        raise UserError(f"{asked.checkpoint}: a meta stage starts from it; leave out --stage base")
    if asked.stage not in run.stages:
        has = " and ".join(run.stages)
        title = class_of(config.model).title
        raise UserError(f"{config.source}: {title} has the {has} stage alone; leave out --stage {asked.stage}")
    return run, [asked.stage]


def _lacking_stages(run: Run, asked: Asked) -> list[str]:
    """Return the stages of a run, without the base stage where the meta stage needs none of its own.

    A meta stage that continues holds all that it started from, and a base stage that is finished may say that it is
    another one now.
    """
    stages = run.stages
    continues = asked.resume and run.at("meta").begun
    needs_base = asked.checkpoint is None and (not continues or run.at("base").finished)
    return stages if needs_base or "meta" not in stages else ["meta"]


def stage_of(run: Run, stage: str, processes: int, asked: Asked | None = None, folder: Path | None = None) -> StageTask:
    """Return the task of a run's stage; it refuses what was trained otherwise than asked.

    Args:
        run: the run, with the settings that are asked.
        stage: ``base`` or ``meta``.
        processes: of all machines.
        asked: by which a training is kept, continued, or begun again; None: no training is to be run.
        folder: of the stage, where that is not the run's.
    """
    files = run.at(stage) if folder is None else StageFolder(folder)
    task = _with_state(StageTask(run.config, stage, processes, files.path), run, files)
    return task if asked is None else _as_asked(task, run, files, asked)


def _with_state(task: StageTask, run: Run, files: StageFolder) -> StageTask:
    """Return a task with the state that its newest checkpoint tells, and why it cannot go on from there."""
    finished = files.finished
    if not finished and not files.begun:
        return task
    try:
        stored = checkpoint.read(files.path / BEST) if finished else files.newest()
        facts = stored.facts.training[-1]
        state = f"step {facts['step']} of {facts['steps']}"
        left = 1 - facts["step"] / facts["steps"]
        if finished:
            stated = [f"{key} {facts[key]}" for key in ("steps", "batch", "size", "seed")]
            state = ", ".join(["finished", *stated, *run.shared(stored)])
            left = 0.0
        refusal = cannot_take(run, task.stage, stored, finished)
        return replace(task, state=state, left=left, refusal=refusal)
    except UserError as error:
        problem = str(error)
    except IndexError:
        problem = f"{files.path}: holds weights only"
    return replace(task, state="no training", refusal=f"{problem}; start again by train.sh --overwrite")


def _as_asked(task: StageTask, run: Run, files: StageFolder, asked: Asked) -> StageTask:
    """Return a task as a command changes it."""
    if _is_kept(task, run, asked):
        return task
    if asked.overwrite:
        return _begun_again(task)
    continues = asked.resume and files.begun
    try:
        files.check_free(continues, overwrite=False)
    except UserError as error:
        return replace(task, refusal=str(error))
    refusal = "" if asked.allow_changes else task.refusal
    return replace(task, refusal=refusal, continues=continues)


def _is_kept(task: StageTask, run: Run, asked: Asked) -> bool:
    """Return whether a stage is a finished base stage that stays, unless it alone is asked, or has to be repeated."""
    if task.stage != "base" or task.left or asked.stage is not None:
        return False
    return not asked.overwrite or not task.refusal or bool(run.config.run.base_folder)


def _begun_again(task: StageTask) -> StageTask:
    state = task.state if task.state == NOT_BEGUN else f"{task.state}, discarded"
    return replace(task, state=state, left=1.0, refusal="", discards=True)
