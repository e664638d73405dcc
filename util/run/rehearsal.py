"""The rehearsal of a training: before its first step, its stages begin by the code that will do them.

The network has no memory for its tensors; lists, episodes, optimisers, schedule, start weights and room on the disk are
those of the training. Independent refusals are said together. ``--dry-run`` ends here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from util.config.compose import files_of
from util.config.settings import Config, DataSettings
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
from util.loop.processes import Made
from util.run.begin import Asked, StageTask, stage_of, stages_asked, trained_part
from util.run.build import build_model
from util.run.data import epoch_length, stage_data
from util.run.disk import CheckpointBytes, room
from util.run.initial_weights import load_initial
from util.run.run import Run

COLUMNS = ["run", "stage", "state", "images", "steps", "px", "batch x processes", "disk GB"]


@dataclass
class Rehearsal:
    """The stages of a training as they would begin, and all that would stop them."""

    run: Run  # with vectors made from names, or none, where its own are refused
    processes: int  # on all machines
    base: str | None  # a base stage's checkpoint, instead of the run's
    rows: dict[str, list[str]]  # the cells of each stage in the table of a dry run
    refusals: list[str]  # each once
    has_data: bool = True  # whether indices may be built
    stored: list[CheckpointBytes] = field(
        default_factory=list
    )  # bytes of the checkpoints of the stages that have steps left
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
        config = f"config: {files_of(self.run.config.source)}"
        return "\n".join(filter(None, [config, str(table), self.start, self.disk and f"disk: {self.disk}"]))

    def read_data(self) -> None:
        """Read the class vectors, and make the indices of the lists; without vectors read the lists alone."""
        read: Callable[[DataSettings, str], Any] = load_index
        if self.attempt(lambda: self.run.text_width) is None:  # what follows does not depend on the vectors' values
            self.run = Run(self.run.config.with_data(text=NAMES if self.run.model_class.reads_text else NO_TEXT))
            self.has_data = False
            read = read_list  # an index would take minutes
        self.attempt(partial(_read_lists, self.run.config.data, read))

    def begin(self, task: StageTask, is_first: bool) -> None:
        """Begin a stage: its data, its network, what it starts from if that is now, its optimisers; add further cells.

        There are none where its network cannot be built, and ``?`` stands for what is not known without its data.

        Args:
            task: the stage.
            is_first: whether no other stage is trained before.
        """
        config = self.run.config
        settings = task.settings
        data = self.attempt(partial(stage_data, self.run, task.stage, progress=False)) if self.has_data else None
        with torch.device("meta"):
            model = self.attempt(partial(build_model, config, self.run.text_width))
        if model is None:
            return
        if is_first and not task.continues:  # a later one starts from what an earlier one makes
            begun = self.attempt(partial(load_initial, self.run, model, task.stage, self.base, downloads=False))
            self.start = begun[0] if begun else ""
        network = trained_part(model, task.stage)
        self.attempt(
            lambda: build_optimizers(
                network.param_groups(), settings.optimizers, f"{config.source}: {task.stage}_stage.optimizers"
            )
        )
        stored = CheckpointBytes.of(network, settings)
        self.stored.append(stored)
        parts = f" in {settings.accumulate} parts" if settings.accumulate > 1 else ""
        self.rows[task.stage] += [
            *self._extent(task, None if data is None else data.images),
            str(config.stage_size(settings)),
            f"{settings.batch / self.processes:g}{parts} x {self.processes}",
            f"{stored.final_bytes / 1e9:.2f}",
        ]

    def _extent(self, task: StageTask, images: ImageList | None) -> tuple[str, str]:
        """Return the cells of a stage's images and steps, ``?`` for what is not known, ``~`` before an estimate."""
        settings = task.settings
        is_published = settings.list_file is None and settings.query != SHUFFLED_PAIRS
        length = published_length(self.run.config.data, settings.images == "all") if is_published else 0
        length = (settings.epoch_length or length) if images is None else epoch_length(settings, images)
        make = partial(StepSchedule.from_settings, settings, length, self.processes, f"{task.stage}_stage")
        schedule = self.attempt(make)
        about = "" if images or settings.epoch_length else "~"  # by the published list
        steps = f"{about}{schedule.steps}" if schedule and length else "?"
        return ("?" if images is None else str(len(images.queries))), steps


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
    refusals = [*dict.fromkeys(task.refusal for task in tasks if task.refusal)]
    rehearsal = Rehearsal(run, processes, asked.checkpoint, rows, refusals)
    left = [task for task in tasks if not task.finished]
    if not left:
        return rehearsal
    rehearsal.attempt(partial(check_metrics, run.config.test.metrics, run.config.source))
    rehearsal.read_data()
    for task in left:
        rehearsal.begin(task, is_first=task is left[0])
    folders = {task.folder for task in left}
    rehearsal.disk = rehearsal.attempt(partial(room, rehearsal.run.config, rehearsal.stored, folders))
    return rehearsal


def _cells_of(config: Config, task: StageTask) -> list[str]:
    """Return the first cells of a stage in the table of a dry run."""
    shots = "" if task.stage == "base" else f", {config.data.shot}-shot"
    state = f"finished, {task.state}" if task.finished else task.state or "not begun"
    return [f"{config.run.name}{shots}", task.stage, state]


def _read_lists(data: DataSettings, read: Callable[[DataSettings, str], Any]) -> None:
    """Make the indices of a data set's lists where they are not there, under a bar, or read the lists alone."""
    for part in ("train", "test"):
        if getattr(data, f"{part}_list") is not None:
            read(data, part)
