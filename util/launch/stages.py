"""The stages of a training and its test: their processes, and what is there of them."""

import os
from argparse import Namespace
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from model.registry import class_of
from util.checkpoints import checkpoint
from util.checkpoints.run import ALLOW, BEST, Run, StageFolder, in_words
from util.checkpoints.weights import network_to_train, start_of
from util.config.folds import Fold
from util.config.settings import Config, StageSettings
from util.data.lists.image_list import ImageList
from util.errors import UserError
from util.run.context import RunContext, make_run_context, with_data
from util.run.data import images_for_training
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

    @property
    def note(self) -> str:
        """The change that the number of processes makes: the batch of a step, or the GPUs in use; '' for none."""
        if self.stage == "test" or not self.gpus:
            return ""
        where, stage = f"{self.stage}_stage.batch = {self.settings.batch}", self.settings
        used = usable_gpus(self.config, self.stage, self.gpus)
        if used < self.gpus:
            return f"{where} in all: {used} of {self.gpus} GPUs of every machine are used"
        if (count := self.processes) == 1 or stage.batch_per == "run":
            return ""
        total = f"{count * stage.batch} in all, the steps 1/{count}, the rate as it is"
        return f"{where} for each of {count} processes: {total}; batch_per: run keeps the batch on any number of GPUs"


def training_images(config: Config, stage: StageSettings) -> ImageList:
    """Return the training list of a stage without its texts and decoded photos; errors as ``images_for_training``."""
    context = RunContext(with_data(config, decoded_gib=0.0), Fold.of(config.data), class_of(config.model), None)
    return images_for_training(context, False, stage)


def stage_in(folder: Path, config: Config, stage: str, gpus: int) -> Task:
    """Return the task of a stage of a training whose folder this is."""
    task = Task(config, stage, gpus, folder, "nothing", 1.0)
    there, run = StageFolder(folder), Run(config)
    finished = there.finished
    if not finished and not there.begun:
        return task
    try:
        content = checkpoint.read(folder / BEST) if finished else there.newest()
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
    differences, shared = in_words(run.differing(content["config"], stage)), list[str]()
    if finished and stage == "base":  # other settings of data and run are told, and the stage is kept
        other = run.differing(content["config"], "meta").items()
        shared = in_words({key: pair for key, pair in other if key.startswith(("data.", "run."))})
        task = replace(task, there=", ".join([task.there, *shared]))
    with suppress(UserError):  # no data here to compare
        images = training_images(config, task.settings) if finished and not shared else None
        digests = {"data": images.digest, "photos": images.files_digest} if images else {}
        if any(content.get(key, digest) != digest for key, digest in digests.items()):
            differences.append("other photos, masks or lists than those there today")
    with suppress(UserError):  # no weights here to compare
        if finished and (start := content.get("start")):
            network = network_to_train(make_run_context(config), stage, False)[0]
            differences += ["other initial weights than those there today"] * (start_of(network, stage) != start)
    if not differences:
        return task
    mend = "undo the change, train it again by train.sh --overwrite, or set another run.name"
    if not finished:
        mend += f"; where the steps stay, {ALLOW} continues it"
    refusal = f"{folder}: the {stage} stage was trained with {', '.join(differences)}; {mend}"
    return replace(task, there=f"{task.there} with {', '.join(differences)}", refusal=refusal)


def as_asked(task: Task, asked: Namespace) -> Task:
    """Return the task of a stage as the options of ``train.sh`` want it: kept, continued, or begun again."""
    kept = task.stage == "base" and not task.left
    if asked.overwrite and (not kept or (task.refusal and not task.config.run.base_folder)):
        there = task.there if task.there == "nothing" else f"{task.there}, discarded"
        return replace(task, there=there, left=1.0, refusal="")
    if kept:
        return task
    try:
        held = StageFolder(task.folder)
        held.check_free(asked.resume and held.begun, False)
    except UserError as error:
        return replace(task, refusal=str(error))
    return replace(task, refusal="") if asked.allow_changes else task
