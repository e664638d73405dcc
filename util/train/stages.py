"""The two training commands, base stage and meta stage: each builds its data and network, then calls the trainer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from model.contract import Trainable
from util.checkpoints import checkpoint
from util.checkpoints.resume import check_free, newest
from util.checkpoints.weights import check_start, encoder_licence, network_to_train
from util.config.read import to_dict
from util.config.settings import Config, StageSettings
from util.errors import EXIT_INTERRUPTED, UserError
from util.evaluate.evaluate import BASE, FINAL, Observer, PassOptions, evaluate
from util.report.figure import pixels
from util.report.pictures import FirstEpisodes
from util.report.run_folder import RunFolder
from util.run.context import RunContext, make_run_context
from util.run.data import StageData, base_stage_data, meta_stage_data
from util.run.device import describe
from util.run.folders import base_folder, run_folder
from util.run.network import PreparedNetwork
from util.run.processes import World, join
from util.train.schedule import StepSchedule
from util.train.trainer import Trainer, TrainerOptions

log = logging.getLogger("symnet")
VALIDATION_PICTURES = 4
Scores = tuple[float, dict[str, Any]]  # the score that picks the best checkpoint, and all scores


def train_base(config: Config, resume: bool, overwrite: bool, allow_changes: bool = False) -> int:
    """Run the base stage; return the exit code."""
    with join(config.run.device, "base_stage.batch, base_stage.size or data.workers") as world:
        context, settings = make_run_context(config), config.base_stage
        if settings is None or not context.model_class.has_base_stage:
            raise UserError(f"{config.path}: this model has no base learner and so no base stage; run train.py")
        folder = base_folder(config)
        check_free(folder, resume, overwrite)
        if not resume:
            check_start(context, "base")
        data = base_stage_data(context, settings, world)
        stage = Stage("base", settings, context, data, world)
        model, note, _ = network_to_train(context, "base", resume)
        stage.check_batch()
        out = RunFolder(folder, world.is_main, fresh=overwrite)
        return _train(stage, model.base_stage(), partial(_validate_base, stage, out), out, note, resume, allow_changes)


def train_meta(
    config: Config, resume: bool, overwrite: bool, base: str | None = None, allow_changes: bool = False
) -> int:
    """Run the meta stage from a base-stage checkpoint (if the model has that stage); return the exit code."""
    with join(config.run.device, "meta_stage.batch, meta_stage.size or data.workers") as world:
        context, folder = make_run_context(config), run_folder(config, "meta")
        check_free(folder, resume, overwrite)
        if not resume:
            check_start(context, "meta", base)
        data = meta_stage_data(context, world)
        stage = Stage("meta", config.meta_stage, context, data, world)
        model, note, before = network_to_train(context, "meta", resume, base)
        stage.check_batch()
        out = RunFolder(folder, world.is_main, fresh=overwrite)
        return _train(stage, model, partial(_validate_meta, stage, out), out, note, resume, allow_changes, before)


@dataclass(frozen=True)
class Stage:
    """One stage of a run: its name (base or meta), its settings and its data."""

    name: str
    settings: StageSettings
    context: RunContext
    data: StageData
    world: World

    @property
    def key(self) -> str:
        """The section of the config."""
        return f"{self.name}_stage"

    def check_batch(self) -> None:
        """Refuse, before anything is written, a batch that is too small to be split.

        Raises:
            UserError: some process would get no image, or batch norm a single one.
        """
        stage, processes = self.settings, self.world.size
        schedule = StepSchedule.from_settings(stage, self.data.epoch_length, processes, self.key)
        if self.name == "base" and schedule.batch < 2 * processes * stage.accumulate:
            raise UserError(
                f"base_stage.batch = {schedule.batch} in all: batch norm needs two images in every part; enlarge it"
            )


def _train(
    stage: Stage,
    network: Trainable,
    validate: Callable[[PreparedNetwork, int], Scores],
    out: RunFolder,
    note: str,
    resume: bool,
    allow_changes: bool,
    before: Sequence[dict[str, Any]] = (),
) -> int:
    """Train a network for one stage, which started from weights with the training ``before``; return the exit code."""
    config, images, world = stage.context.config, stage.data.images, stage.world
    device = describe(world.device)
    facts = {
        "images": len(images.queries),
        "list": images.digest,
        "list_source": images.source,
        "list_note": images.note,
    }
    text = stage.context.text_digest
    options = TrainerOptions(
        stage.settings,
        stage.key,
        stage.data.epoch_length,
        precision=config.run.precision,
        compile=config.run.compile,
        seed=config.run.seed,
        workers=config.data.workers,
        state={
            "licence": encoder_licence(config, network),
            "stage": stage.name,
            "config": to_dict(config),
            "data": images.digest,
            checkpoint.TEXT: text,
            checkpoint.PHOTOS: images.files_digest,
            checkpoint.BASE: list(before),
        },
        allow_changes=allow_changes,
    )
    trainer = Trainer(network, stage.data.training, validate, out, world, options)
    try:
        if resume:
            continued = newest(out.path)
            options.state[checkpoint.BASE] = continued.get(checkpoint.BASE, [])
            trainer.resume(continued)
        out.describe(to_dict(config), **facts, device=device)
        if note:
            log.info("%s", note)
        log.info("%s stage on %s: %d images, %d processes", stage.name, device, len(images.queries), world.size)
        finished = trainer.fit()
    finally:
        out.close()
    return 0 if finished else EXIT_INTERRUPTED


# --- validation ------------------------------------------------------------------------------------------------------


def _validate_base(stage: Stage, out: RunFolder, network: PreparedNetwork, step: int) -> Scores:
    scores = _evaluate(stage, network)
    out.scalars("validation", {"base_miou": scores[BASE]["miou"]}, step)
    return scores[BASE]["miou"], scores


def _validate_meta(stage: Stage, out: RunFolder, network: PreparedNetwork, step: int) -> Scores:
    pictures = FirstEpisodes(stage.data.held_out_classes, VALIDATION_PICTURES)
    scores = _evaluate(stage, network, [pictures] if stage.world.is_main else [])
    out.scalars("validation", {f"{n}_{k}": s[k] for n, s in scores.items() for k in s if k != "per_class"}, step)
    if figure := pictures.drawn():
        out.image("validation", pixels(figure), step)
    return scores[FINAL]["miou"], scores


def _evaluate(stage: Stage, network: PreparedNetwork, others: Sequence[Observer] = ()) -> dict[str, Any]:
    config, data = stage.context.config, stage.data
    options = PassOptions(config.test.batch, config.data.workers, title="validate")
    classes = len(data.held_out_classes)
    return evaluate(network, data.held_out, data.validation_length, classes, stage.world, options, others)
