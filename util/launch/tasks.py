"""The tasks of a command: stages of trainings and tests, with their processes, their state and what is left of them."""

import os
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from model.registry import class_of
from util.checkpoints import checkpoint
from util.checkpoints.run import ALLOW, BEST, Run, StageFolder, in_words
from util.checkpoints.weights import digest_of_start, network_to_train
from util.config.folds import Fold
from util.config.settings import Config, StageSettings
from util.data.lists.image_list import ImageList
from util.errors import UserError
from util.run.context import RunContext, with_data
from util.run.data import images_for_training
from util.train.optim import least_batch

NOT_BEGUN = "not begun"


def nodes() -> int:
    """Return the number of machines that run a command together."""
    return int(os.environ.get("NNODES", "1"))


@dataclass(frozen=True)
class Task:
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
        if self.stage == "test" or self.settings.batch_per == "process":
            return self.gpus
        least = least_batch(self.settings, f"{self.stage}_stage")
        return min(self.gpus, max(self.settings.batch // least // nodes(), 1))

    @property
    def processes(self) -> int:
        """Its processes on all machines."""
        return max(self.used, 1) * nodes()

    @property
    def note(self) -> str:
        """The change that the number of processes makes: the batch of a step, or the GPUs in use; '' for none."""
        if self.stage == "test" or not self.gpus:
            return ""
        batch, count = self.settings.batch, self.processes
        where = f"{self.stage}_stage.batch = {batch}"
        if self.used < self.gpus:
            return f"{where} in all: {self.used} of {self.gpus} GPUs of every machine are used"
        if count == 1 or self.settings.batch_per == "run":
            return ""
        total = f"{count * batch} in all, the steps 1/{count}, the rate as it is"
        return f"{where} for each of {count} processes: {total}; batch_per: run keeps the batch on any number of GPUs"


def training_images(config: Config, stage: StageSettings) -> ImageList:
    """Return the training list of a stage without its texts and decoded photos; errors as ``images_for_training``."""
    context = RunContext(with_data(config, decoded_gib=0.0), Fold.of(config.data), class_of(config.model), None)
    return images_for_training(context, False, stage)


def stage_in(folder: Path, run: Run, stage: str, gpus: int) -> Task:
    """Return the task of a run's stage whose folder this is; it refuses what was trained otherwise than asked."""
    task, files = Task(run.config, stage, gpus, folder), StageFolder(folder)
    if not (finished := files.finished) and not files.begun:
        return task
    try:
        content = checkpoint.read(folder / BEST) if finished else files.newest()
        facts = checkpoint.training_of(content)[-1]
    except (UserError, IndexError) as error:
        refusal = str(error) if isinstance(error, UserError) else f"{folder}: holds weights only"
        return replace(task, state="no training", refusal=f"{refusal}; start again by train.sh --overwrite")
    if finished:
        stated = (f"{key} {facts[key]}" for key in ("steps", "batch", "size", "seed"))
        state, left = ", ".join(["finished", *stated]), 0.0
    else:
        state, left = f"step {facts['step']} of {facts['steps']}", 1 - facts["step"] / facts["steps"]
    differences, shared = in_words(run.differing(content["config"], stage)), list[str]()
    if finished and stage == "base":  # other settings of data and run are printed, and the stage is kept
        other = run.differing(content["config"], "meta").items()
        shared = in_words({key: pair for key, pair in other if key.startswith(("data.", "run."))})
        state = ", ".join([state, *shared])
    if finished and not shared:
        with suppress(UserError):  # no data here to compare
            images = training_images(run.config, task.settings)
            now = {"data": images.digest, "photos": images.files_digest}
            if now != {key: content.get(key, now[key]) for key in now}:
                differences.append("other photos, masks or lists than those there today")
    if finished and (start := content.get("start")):
        with suppress(UserError):  # no weights here to compare
            if digest_of_start(network_to_train(run, stage, False)[0], stage) != start:
                differences.append("other initial weights than those there today")
    refusal = ""
    if differences:
        state = f"{state} with {', '.join(differences)}"
        mend = "undo the change, train it again by train.sh --overwrite, or set another run.name"
        mend += "" if finished else f"; if its steps are the same, {ALLOW} continues it"
        refusal = f"{folder}: the {stage} stage was trained with {', '.join(differences)}; {mend}"
    return replace(task, state=state, left=left, refusal=refusal)


def as_asked(task: Task, asked: Namespace) -> Task:
    """Return the task of a stage as the options of ``train.sh`` want it: kept, continued, or begun again."""
    kept = task.stage == "base" and not task.left
    if asked.overwrite and (not kept or (task.refusal and not task.config.run.base_folder)):
        discarded = task.state if task.state == NOT_BEGUN else f"{task.state}, discarded"
        return replace(task, state=discarded, left=1.0, refusal="")
    if kept:
        return task
    try:
        files = StageFolder(task.folder)
        files.check_free(asked.resume and files.begun, False)
    except UserError as error:
        return replace(task, refusal=str(error))
    return replace(task, refusal="") if asked.allow_changes else task
