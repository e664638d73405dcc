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
    """The options of a training's command that are not in its config."""

    resume: bool = False  # continue the stages that were begun
    overwrite: bool = False  # discard an earlier run in the folder
    allow_changes: bool = False  # continue although settings that decide the result changed
    checkpoint: str | None = None  # a base stage's, instead of the run's own
    stage: str | None = None  # only base or meta; None: all that are not finished


@dataclass(frozen=True)
class StageTask:
    """A stage of a training (base, meta) or a test, with its state."""

    config: Config
    stage: str
    processes_asked: int  # on all machines
    folder: Path  # of its files
    state: str = NOT_BEGUN  # what has been done, in words
    left: float = 1.0  # share of the work that is left
    refusal: str = ""  # why it cannot continue; '': it can
    continues: bool = False  # whether it continues from a checkpoint
    discards: bool = False  # whether it discards an earlier run in its folder

    @property
    def settings(self) -> StageSettings:
        """The settings of its stage of a training."""
        return getattr(self.config, f"{self.stage}_stage")

    @property
    def processes(self) -> int:
        """The number of processes: at most as many as a training's batch can be split over."""
        if self.stage == "test":
            return self.processes_asked
        least = least_batch(self.settings, f"{self.stage}_stage")
        return min(self.processes_asked, max(self.settings.batch // least, 1))

    @property
    def note(self) -> str:
        """A line if the batch cannot be split over all processes, with what to do; '' if it can."""
        if self.processes == self.processes_asked:
            return ""
        batch = f"{self.stage}_stage.batch = {self.settings.batch}"
        fix = f"take {self.processes} GPUs in all for it (--stage {self.stage})"
        return f"{batch} is too small for {self.processes_asked} processes: {fix}"


def stages_asked(config: Config, asked: Asked) -> tuple[Run, list[str]]:
    """Return the run and its stages; a resumed run has the options that it was begun with."""
    run = Run(config)
    if not class_of(config.model).learns:
        raise UserError(f"{config.source}: this method has nothing to train; test it with test.sh")
    if asked.resume:
        begun = "meta" if run.at("meta").started else "base"
        run = run.with_training_options(asked.stage or begun)
    if asked.stage is None:
        return run, _lacking_stages(run, asked)
    if asked.stage == "base" and asked.checkpoint:
        raise UserError(f"{asked.checkpoint}: only a meta stage starts from a checkpoint; leave out --stage base")
    if asked.stage not in run.stages:
        has = " and ".join(run.stages)
        title = class_of(config.model).title
        raise UserError(f"{config.source}: {title} has only the {has} stage; leave out --stage {asked.stage}")
    return run, [asked.stage]


def _lacking_stages(run: Run, asked: Asked) -> list[str]:
    """Return the stages to train: without the base stage if the meta stage does not need it.

    It does not need it with a checkpoint of a base stage, or if it continues. A finished base stage is kept in the
    list even then, so that one which was trained otherwise is refused.
    """
    stages = run.stages
    continues = asked.resume and run.at("meta").begun
    needs_base = asked.checkpoint is None and (not continues or run.at("base").finished)
    return stages if needs_base or "meta" not in stages else ["meta"]


def stage_of(run: Run, stage: str, processes: int, asked: Asked | None = None, folder: Path | None = None) -> StageTask:
    """Return the task of a run's stage, with a refusal if its folder has another training.

    Args:
        run: the run, with the settings of the command.
        stage: ``base`` or ``meta``.
        processes: their number on all machines.
        asked: options that keep, continue or discard a training; None: nothing will be trained.
        folder: the stage's folder, if it is not the run's.
    """
    files = run.at(stage) if folder is None else StageFolder(folder)
    task = _with_state(StageTask(run.config, stage, processes, files.path), run, files)
    return task if asked is None else _as_asked(task, run, files, asked)


def _with_state(task: StageTask, run: Run, files: StageFolder) -> StageTask:
    """Return a task with the state of its newest checkpoint, and with the reason if it cannot continue."""
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
        problem = f"{files.path}: holds only weights"
    return replace(task, state="no training", refusal=f"{problem}; start again by train.sh --overwrite")


def _as_asked(task: StageTask, run: Run, files: StageFolder, asked: Asked) -> StageTask:
    """Return a task as the command's options change it."""
    if _is_kept(task, run, asked):
        return replace(task, refusal="") if asked.allow_changes else task
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
    """Return whether a finished base stage is kept: it is neither asked for by ``--stage base`` nor to be repeated."""
    if task.stage != "base" or task.left or asked.stage is not None:
        return False
    return not asked.overwrite or not task.refusal or bool(run.config.run.base_folder)


def _begun_again(task: StageTask) -> StageTask:
    state = task.state if task.state == NOT_BEGUN else f"{task.state}, discarded"
    return replace(task, state=state, left=1.0, refusal="", discards=True)
