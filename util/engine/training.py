"""The two training commands: the base stage, the meta stage. Each builds what it needs, then calls."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from model.contract import Trainable
from util.config.read import to_dict
from util.config.settings import Config, StageSettings
from util.data.lists import ImageList
from util.data.sampling import SHUFFLED_PAIRS
from util.engine import checkpoint
from util.engine.device import describe
from util.engine.evaluation import BASE, FINAL, Watcher, evaluate
from util.engine.processes import World, join
from util.engine.run_context import (
    RunContext,
    base_folder,
    fill_encoder,
    load_checkpoint,
    make_run_context,
    new_model,
    run_folder,
)
from util.engine.step_schedule import StepSchedule
from util.engine.trainer import BEST, LAST, PREVIOUS, Trainer, Validate
from util.errors import EXIT_INTERRUPTED, UserError
from util.report.pictures import FirstEpisodes, grid
from util.report.run_folder import RunFolder, check_free

log = logging.getLogger("symnet")
VALIDATION_PICTURES = 4


def train_base(config: Config, resume: bool, overwrite: bool) -> int:
    """Run the base stage; return the exit code."""
    with join(config.run.device, _memory_settings("base")) as world:
        context = make_run_context(config)
        if not context.model_class.has_base_stage:
            raise UserError(f"{config.path}: this model has no base learner and so no base stage; run train.py")
        folder = base_folder(config)
        check_free(folder, LAST, resume, overwrite)
        with world.main_first():
            images = context.train_images(world.is_main)
            held_out = context.base_validation_images(world.is_main)
        model = new_model(context)
        note = "" if resume else fill_encoder(context, model)
        network = model.base_stage()
        test_set = context.labelled(held_out, train=False)
        episodes = min(config.base_stage.validate_episodes, len(held_out.queries))

        def validate(trained: nn.Module, step: int) -> tuple[float, dict[str, Any]]:
            scores = _evaluate(context, world, trained, test_set, episodes, "validate")
            out.scalars("validation", {"base_miou": scores[BASE]["miou"]}, step)
            return scores[BASE]["miou"], scores

        data = context.labelled(images, train=True)
        _check_batch(context, "base", images, world)
        out = RunFolder(folder, world.is_main, fresh=overwrite)
        trainer = _trainer(context, world, out, "base", network, data, images, validate, note)
        return _run(trainer, folder, resume, world)


def train_meta(config: Config, resume: bool, overwrite: bool, base: str | None = None) -> int:
    """Run the meta stage from a base-stage checkpoint (if the model has that stage); return the exit code."""
    with join(config.run.device, _memory_settings("meta")) as world:
        context = make_run_context(config)
        folder = run_folder(config, "meta")
        check_free(folder, LAST, resume, overwrite)
        with world.main_first():
            images, novel = context.train_images(world.is_main), context.test_images(world.is_main)
        data = context.training_episodes(images)
        if base is not None and not context.model_class.has_base_stage:
            raise UserError(
                f"{base}: this model ({context.model_class.title}) has no base learner and starts from no base-stage "
                "checkpoint; leave it out"
            )
        stage = config.meta_stage
        held_out = context.validation_episodes(novel)
        model = new_model(context)
        note = ""
        if not resume and context.model_class.has_base_stage:
            start = base or base_folder(config) / BEST
            load_checkpoint(context, model, "base", start)
            note = f"base stage: {start}"
        elif not resume:
            note = fill_encoder(context, model)

        def validate(trained: nn.Module, step: int) -> tuple[float, dict[str, Any]]:
            pictures = FirstEpisodes(context.config.data.classes, VALIDATION_PICTURES)
            scores = _evaluate(context, world, trained, held_out, stage.validate_episodes, "validate", pictures)
            out.scalars(
                "validation", {f"{n}_{k}": s[k] for n, s in scores.items() for k in s if k != "per_class"}, step
            )
            if pictures.rows:
                out.image("validation", grid(pictures.rows), step)
            return scores[FINAL]["miou"], scores

        _check_batch(context, "meta", images, world)
        out = RunFolder(folder, world.is_main, fresh=overwrite)
        trainer = _trainer(context, world, out, "meta", model, data, images, validate, note)
        return _run(trainer, folder, resume, world)


def _memory_settings(name: str) -> str:
    """Return what decides how much memory a stage needs, in words."""
    return (
        f"{name}_stage.batch (or split it with a larger {name}_stage.accumulate), test.batch, which validates, "
        f"{name}_stage.size or data.workers"
    )


def _trainer(
    context: RunContext,
    world: World,
    out: RunFolder,
    name: str,
    network: Trainable,
    data: Dataset,
    images: ImageList,
    validate: Validate,
    note: str,
) -> Trainer:
    config = context.config
    stage = getattr(config, f"{name}_stage")
    network.to(world.device)
    out.describe(to_dict(config), images=len(images.queries), list=images.digest, device=describe(world.device))
    if note:
        log.info("%s", note)
    log.info("%s stage on %s: %d images, %d processes", name, describe(world.device), len(images.queries), world.size)
    return Trainer(
        network,
        data,
        epoch_length(stage, images),
        stage,
        key=f"{name}_stage",
        validate=validate,
        folder=out,
        world=world,
        precision=config.run.precision,
        seed=config.run.seed,
        workers=config.data.workers,
        state={"stage": name, "config": to_dict(config), "data": images.digest, checkpoint.TEXT: context.text_digest},
    )


def epoch_length(stage: StageSettings, images: ImageList) -> int:
    """Return how many images or episodes make an epoch: as many as the list, or its pairs, unless the stage says."""
    if stage.epoch_length is not None:
        return stage.epoch_length
    return len(images.pairs if stage.query == SHUFFLED_PAIRS else images.queries)


def _check_batch(context: RunContext, name: str, images: ImageList, world: World) -> None:
    """Refuse, before anything is written, a batch that cannot be shared out.

    Raises:
        UserError: some process would get no image, or batch norm a single one.
    """
    stage = getattr(context.config, f"{name}_stage")
    schedule = StepSchedule.of(stage, epoch_length(stage, images), world.size, f"{name}_stage")
    if name == "base" and schedule.batch < 2 * world.size * stage.accumulate:
        raise UserError(
            f"base_stage.batch = {schedule.batch} in all: batch norm needs two images in every part; enlarge it"
        )


def _run(trainer: Trainer, folder: Path, resume: bool, world: World) -> int:
    try:
        if resume:
            trainer.resume(_newest(folder))
        finished = trainer.fit()
    finally:
        trainer.folder.close()
    return 0 if finished else EXIT_INTERRUPTED


def _newest(folder: Path) -> dict[str, Any]:
    """Return the content of the last checkpoint, or of the one before where the last cannot be read."""
    try:
        return checkpoint.read(folder / LAST)
    except UserError as error:
        if not (folder / PREVIOUS).exists():
            raise
        log.warning("%s; continuing from the one before, %s", error, folder / PREVIOUS)
        return checkpoint.read(folder / PREVIOUS)


def _evaluate(
    context: RunContext,
    world: World,
    network: nn.Module,
    data: Dataset,
    episodes: int,
    title: str,
    watch: Watcher | None = None,
) -> dict[str, Any]:
    config = context.config
    return evaluate(
        network,
        data,
        episodes,
        classes=len(config.data.classes),
        batch=config.test.batch,
        workers=config.data.workers,
        world=world,
        precision=config.run.precision,
        title=title,
        watch=watch,
    )
