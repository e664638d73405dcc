"""The tasks of a command: stages of trainings and tests, with their processes, their state and what is left of them."""

from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

from util.config.settings import Config, StageSettings
from util.files.errors import UserError
from util.files.launcher import number_of
from util.run import checkpoint
from util.run.run import BEST, Run, StageFolder
from util.run.weights import cannot_take
from util.train.optim import least_batch

NOT_BEGUN = "not begun"


def nodes() -> int:
    """Return the number of machines that run a command together."""
    return number_of("NNODES", 1)


@dataclass(frozen=True)
class StageTask:
    """A stage of a training (base, meta) or a test, with its state."""

    config: Config
    stage: str
    gpus: int  # of every machine
    folder: Path  # of its files
    state: str = NOT_BEGUN  # what has been done, in words
    left: float = 1.0  # the share of its work that is still to be done
    refusal: str = ""  # why it cannot go on from there

    @property
    def settings(self) -> StageSettings:
        """The settings of its stage of a training."""
        return getattr(self.config, f"{self.stage}_stage")

    @property
    def used(self) -> int:
        """The GPUs of every machine that it takes: no more than the batch of a training stage can be split over."""
        if self.stage == "test":
            return self.gpus
        least = least_batch(self.settings, f"{self.stage}_stage")
        return min(self.gpus, max(self.settings.batch // least // nodes(), 1))

    @property
    def processes(self) -> int:
        """Its processes on all machines."""
        return max(self.used, 1) * nodes()

    @property
    def note(self) -> str:
        """Says if some GPUs are not used, as the batch cannot be split over all; '' if they are."""
        if self.used == self.gpus:
            return ""
        batch = f"{self.stage}_stage.batch = {self.settings.batch}"
        return f"{self.used} of {self.gpus} GPUs of every machine are used: {batch} is too small for more"


def stage_in(folder: Path, run: Run, stage: str, gpus: int, asked: Namespace | None = None) -> StageTask:
    """Return the task of a run's stage; it refuses what was trained otherwise than asked.

    Args:
        folder: of the stage.
        run: the run, with the settings that are asked.
        stage: ``base`` or ``meta``.
        gpus: of this machine, 0 for the CPU.
        asked: the options of ``train.sh``, by which a training is kept, continued, or begun again.
    """
    files = StageFolder(folder)
    task = _with_state(StageTask(run.config, stage, gpus, folder), run, files)
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


def _as_asked(task: StageTask, run: Run, files: StageFolder, asked: Namespace) -> StageTask:
    """Return a task as the options of ``train.sh`` change it; a finished base stage is kept if it can be."""
    if task.stage == "base" and not task.left:
        is_to_be_repeated = asked.overwrite and task.refusal and not run.config.run.base_folder
        return _begun_again(task) if is_to_be_repeated else task
    if asked.overwrite:
        return _begun_again(task)
    try:
        files.check_free(asked.resume and files.begun, False)
    except UserError as error:
        return replace(task, refusal=str(error))
    return replace(task, refusal="") if asked.allow_changes else task


def _begun_again(task: StageTask) -> StageTask:
    state = task.state if task.state == NOT_BEGUN else f"{task.state}, discarded"
    return replace(task, state=state, left=1.0, refusal="")
