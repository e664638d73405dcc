"""The two training commands, base stage and meta stage: data, network and what they start from, then the loop."""

import logging
from dataclasses import asdict
from functools import partial
from typing import Any, cast

from util import cli
from util.checkpoints.checkpoint import Stored, checkpoint_bytes, free_bytes
from util.checkpoints.run import OPTIONS, Run
from util.checkpoints.weights import digest_of_start, encoder_licence, init_network
from util.config import command_line
from util.config.read import to_dict
from util.config.settings import Config
from util.data.episodes import EpisodeDataset
from util.errors import EXIT_INTERRUPTED, UserError
from util.evaluate.evaluate import BASE, FINAL, Observer, Scoreboard, run_pass
from util.report.figure import Examples
from util.report.run_folder import RunFolder
from util.runtime.data import StageData, base_stage_data, epoch_length, meta_stage_data
from util.runtime.device import compute_in_fixed_order, describe, episodes_at_once, precision_of_training
from util.runtime.loading import batches, training_numbers
from util.runtime.network import PreparedNetwork, prepare_network
from util.runtime.processes import join
from util.train import hooks
from util.train.curves import Curves, check_writers
from util.train.kept_features import GIB, KeptEpisodes, RecordFile
from util.train.optim import EMA, StepSchedule, build_optimizers
from util.train.trainer import train

log = logging.getLogger("symnet")


def command(stage: str, about: str | None) -> int:
    """Run a stage, base or meta, as a command line asks, or print its config; return the exit code."""
    parser = command_line.parser(about)
    cli.add_training_options(parser)
    if stage == "meta":
        parser.add_argument("--checkpoint", help="base-stage checkpoint to start from, instead of this run's own")
    options = parser.parse_args()
    if command_line.show(options):
        return 0
    base, config = getattr(options, "checkpoint", None), command_line.read(options)
    return train_stage(stage, config, options.resume, options.overwrite, base, options.allow_changes)


def train_stage(
    name: str, config: Config, resume: bool, overwrite: bool, base: str | None = None, allow_changes: bool = False
) -> int:
    """Run a stage, base or meta, and return the exit code.

    ``base`` is a base-stage checkpoint that the meta stage starts from, in place of the run's own.
    """
    with join(config.run.device, f"{name}_stage.batch, {name}_stage.size or data.workers") as world:
        if config.run.deterministic:
            compute_in_fixed_order()
        is_base, key = name == "base", f"{name}_stage"
        run = Run(config).with_training_options(name) if resume else Run(config)
        config, context, folder = run.config, run.context, run.folder(name)
        stage = config.base_stage if is_base else config.meta_stage
        if stage is None:
            raise UserError(f"{config.path}: this model has no base learner and so no base stage; run train.py")
        run.at(name).check_free(resume, overwrite)
        check_writers(config.run.loggers)
        model, note, before = init_network(run, name, resume, base)  # fails before photos are read
        data = base_stage_data(context, stage, world) if is_base else meta_stage_data(context, world)
        schedule = StepSchedule.from_settings(stage, epoch_length(stage, data.images), world.size, key)
        network, images, workers = model.base_stage() if is_base else model, data.images, config.data.workers
        precision = precision_of_training(config, world.device)
        frozen_norms = network.freeze_norms() if stage.freeze_norm else 0
        prepared = prepare_network(network, world.device, precision, config.run.compile, world.size, config.run.graphs)
        optimizers, ema = build_optimizers(network.param_groups(), stage.optimizers), EMA(network, stage.ema_decay)
        kept = None
        if stage.cache_gib is not None:
            left = (
                free_bytes(config)
                - Stored.of(network, stage).peak_bytes
                + (0 if overwrite else checkpoint_bytes([folder]))
            )
            file = RecordFile(folder, min(stage.cache_gib, max(left, 0) / 2 / GIB) / world.size)
            kept = KeptEpisodes(cast(EpisodeDataset, data.training), prepared, file, key)
        merged = to_dict(config)
        state: dict[str, Any] = {"licence": encoder_licence(config, network), "stage": name, "config": merged}
        state |= {"data": images.digest, "content": images.files_digest, "text": context.text_digest, "base": before}
        if not resume:  # else the checkpoint knows
            state["start"] = None if base else digest_of_start(model, name)
        state |= {"schedule": asdict(schedule), "precision": precision}
        out = RunFolder(folder, world.is_main, fresh=overwrite)
        curves = Curves(folder, config.run.loggers if world.is_main else (), merged)
        training = hooks.Training(prepared, optimizers, ema, stage, schedule, state, out, world, curves)
        try:
            if resume:
                hooks.resume(training, allow_changes)
            device, length = describe(world.device), len(images.queries)
            listed = {"images": length, "list": images.digest, "list_source": images.source, "list_note": images.note}
            facts = {"device": device, "precision": precision, OPTIONS: config.given}
            out.describe(merged, **listed, **facts)
            if note:
                log.info("%s", note)
            if stage.freeze_norm:
                log.info("%s.freeze_norm: freezes %d batch norms that would have been trained", key, frozen_norms)
            place = f"{device} in {precision}"
            log.info("%s stage on %s: %d images, %d processes", name, place, length, world.size)
            shares = schedule.batch, world.rank, world.size, stage.accumulate
            numbers = training_numbers(training.progress.step, schedule.steps, *shares)
            stream = kept.batches(numbers, workers) if kept else batches(data.training, numbers, workers, world.device)
            validate = partial(_validate, config, data, training) if stage.validate_every else None
            if validate and data.held_out is None:
                validate = None
                log.info("no validations: the test list has too few images of the training list's classes")
            finished = train(training, stream, validate, config.run.seed)
            if kept:
                log.info("encoder: %s", kept.file.in_words())
        finally:
            curves.close()
            out.close()
        return 0 if finished else EXIT_INTERRUPTED


train_base, train_meta = partial(train_stage, "base"), partial(train_stage, "meta")


def _validate(
    config: Config, data: StageData, training: hooks.Training, network: PreparedNetwork, step: int
) -> tuple[float, dict[str, Any]]:
    """Score a network on the held-out examples of its stage, draw the first; return the leading score and all."""
    board, examples, world = Scoreboard(len(data.held_out_classes)), Examples(8), training.world
    length, images = data.validation_length, config.data.shot + 1
    batch = episodes_at_once(config.test.batch, world.device, images, config.data.size)
    together = 1 if getattr(data.held_out, "one_by_one", False) else batch
    watch = hooks.Watch(training, length // world.size // together)
    seen: list[Observer] = [board, examples, watch]
    run_pass(network, data.held_out, length, seen, world, "validate", batch, config.data.workers)
    scores, _ = board.gather(world)
    points = {f"{n}_{k}": s[k] for n, s in scores.items() for k in s if k != "per_class"}
    training.curves.scalars("validation", points, step)
    for number, picture in sorted(entry for part in world.gather(examples.shown) for entry in part.items()):
        training.curves.image(f"validation/{number}", picture, step)
    return scores[FINAL if FINAL in scores else BASE]["miou"], scores
