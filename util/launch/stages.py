"""The stages of a training and its test: their processes, and what is there of them."""

import os
from argparse import Namespace
from dataclasses import dataclass, replace
from pathlib import Path

from util.checkpoints import checkpoint
from util.checkpoints.resume import ALLOW, check_free, newest, training_differences
from util.config.read import to_dict
from util.config.settings import Config, StageSettings
from util.errors import UserError
from util.run.context import BEST, begun, is_finished
from util.train.optim import least_batch


def nodes() -> int:
    """Return the number of machines that run a command together."""
    return int(os.environ.get("NNODES", "1"))


def usable_gpus(config: Config, stage: str, gpus: int) -> int:
    """Return how many of a machine's GPUs the batch of a training stage (base, meta) is split over."""
    key, settings = f"{stage}_stage", getattr(config, f"{stage}_stage")
    if settings.batch_per == "process":
        return gpus
    return min(gpus, max(settings.batch // least_batch(settings, key) // nodes(), 1))


@dataclass(frozen=True)
class Task:
    """A stage of a training (base, meta) or a test, with what is there of it.

    Attributes:
        gpus: of every machine.
        folder: of its files.
        there: what is there of it, in words.
        left: the share of its work that is still to be done.
        refusal: why it cannot go on from what is there.
    """

    config: Config
    stage: str
    gpus: int
    folder: Path
    there: str
    left: float
    refusal: str = ""

    @property
    def settings(self) -> StageSettings:
        """The settings of its stage of a training."""
        return getattr(self.config, f"{self.stage}_stage")

    @property
    def processes(self) -> int:
        """Its processes on all machines."""
        used = self.gpus if self.stage == "test" else usable_gpus(self.config, self.stage, self.gpus)
        return max(used, 1) * nodes()


def stage_in(folder: Path, config: Config, stage: str, gpus: int) -> Task:
    """Return the task of a stage of a training whose folder this is."""
    task = Task(config, stage, gpus, folder, "nothing", 1.0)
    finished, now = is_finished(folder), to_dict(config)
    if not finished and not begun(folder):
        return task
    try:
        content = checkpoint.read(folder / BEST) if finished else newest(folder)
        facts = checkpoint.training_of(content)[-1]
    except (UserError, IndexError) as error:
        refusal = str(error) if isinstance(error, UserError) else f"{folder}: holds weights only"
        return replace(task, there="no training", refusal=f"{refusal}; start again by train.sh --overwrite")
    if finished:
        told = [f"{key} {facts[key]}" for key in ("steps", "batch", "size", "seed")]
        task = replace(task, there=", ".join(["finished", *told]), left=0.0)
    else:
        step, steps = facts["step"], facts["steps"]
        task = replace(task, there=f"step {step} of {steps}", left=1 - step / steps)
    if finished and stage == "base":  # other settings of data and run are told, and the stage is kept
        before, after = ({section: c[section] for section in ("data", "run")} for c in (content["config"], now))
        task = replace(task, there=", ".join([task.there, *training_differences(before, after, "meta")]))
    differences = ", ".join(training_differences(content["config"], now, stage))
    if not differences:
        return task
    mend = "undo the change, train it again by train.sh --overwrite, or set another run.name"
    if not finished:
        mend += f"; where the steps stay, {ALLOW} continues it"
    refusal = f"{folder}: the {stage} stage was trained with {differences}; {mend}"
    return replace(task, there=f"{task.there} with {differences}", refusal=refusal)


def as_asked(task: Task, asked: Namespace) -> Task:
    """Return the task of a stage as the options of ``train.sh`` want it: kept, continued, or begun again."""
    kept = task.stage == "base" and not task.left
    if asked.overwrite and (not kept or (task.refusal and not task.config.run.base_folder)):
        there = task.there if task.there == "nothing" else f"{task.there}, discarded"
        return replace(task, there=there, left=1.0, refusal="")
    if kept:
        return task
    try:
        check_free(task.folder, asked.resume and begun(task.folder), False)
    except UserError as error:
        return replace(task, refusal=str(error))
    return replace(task, refusal="") if asked.allow_changes else task
