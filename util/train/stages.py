"""The two training commands, base stage and meta stage: data, network and what they start from, and their loop.

An interrupted run resumes to the same result.
"""

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from util import cli
from util.checkpoints.checkpoint import Stored, free_bytes, taken
from util.checkpoints.run import OPTIONS, Run
from util.checkpoints.weights import digest_of_start, encoder_licence, network_to_train
from util.config import command_line
from util.config.read import to_dict
from util.config.settings import Config
from util.data.episodes import EpisodeDataset
from util.errors import EXIT_INTERRUPTED, UserError
from util.evaluate.evaluate import BASE, FINAL, Observer, Scoreboard, run_pass
from util.report.figure import Examples
from util.report.run_folder import RunFolder, check_writers
from util.run.data import StageData, base_stage_data, meta_stage_data
from util.run.device import compute_in_fixed_order, describe
from util.run.loading import batches, training_numbers
from util.run.network import PreparedNetwork, prepare_network
from util.run.processes import join
from util.train import hooks
from util.train.kept_features import GIB, KeptEpisodes, RecordFile
from util.train.optim import EMA, StepSchedule, build_optimizers, set_learning_rates

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
        run, is_base, key = Run(config), name == "base", f"{name}_stage"
        if resume:
            run = run.as_trained(name)
        config, context, folder = run.config, run.context, run.folder(name)
        stage = config.base_stage if is_base else config.meta_stage
        if stage is None:
            raise UserError(f"{config.path}: this model has no base learner and so no base stage; run train.py")
        run.at(name).check_free(resume, overwrite)
        check_writers(config.run.loggers)
        model, note, before = network_to_train(run, name, resume, base)  # fails before photos are read
        data = base_stage_data(context, stage, world) if is_base else meta_stage_data(context, world)
        schedule = StepSchedule.from_settings(stage, data.epoch_length, world.size, key)
        network, images, workers = model.base_stage() if is_base else model, data.images, config.data.workers
        prepared = prepare_network(network, world.device, config.run.precision, config.run.compile, world.size)
        optimizers, ema = build_optimizers(network.param_groups(), stage.optimizers), EMA(network, stage.ema_decay)
        kept = None
        if stage.cache_gib is not None:
            left = free_bytes(config) - Stored.of(network, stage).most + (0 if overwrite else taken([folder]))
            file = RecordFile(folder, min(stage.cache_gib, max(left, 0) / 2 / GIB) / world.size)
            kept = KeptEpisodes(cast(EpisodeDataset, data.training), prepared, file, key)
        merged = to_dict(config)
        state = {
            "licence": encoder_licence(config, network),
            "stage": name,
            "config": merged,
            "data": images.digest,
            "text": context.text_digest,
            "photos": images.files_digest,
            "base": before,
            "start": None if resume or base else digest_of_start(model, name),
            "schedule": asdict(schedule),
        }
        out = RunFolder(folder, world.is_main, fresh=overwrite)
        out.loggers = [*config.run.loggers]
        training = hooks.Training(prepared, optimizers, ema, stage, schedule, state, out, world)
        try:
            if resume:
                hooks.resume(training, allow_changes)
            device, length = describe(world.device), len(images.queries)
            facts: dict[str, Any] = {
                "list": images.digest,
                "list_source": images.source,
                "list_note": images.note,
                "device": device,
            }
            facts |= {"precision": prepared.precision, OPTIONS: config.given}
            out.describe(merged, images=length, **facts)
            if note:
                log.info("%s", note)
            log.info("%s stage on %s: %d images, %d processes", name, device, length, world.size)
            place = schedule.batch, world.rank, world.size, stage.accumulate
            numbers = training_numbers(training.progress.step, schedule.steps, *place)
            stream = kept.batches(numbers, workers) if kept else batches(data.training, numbers, workers, world.device)
            validate = partial(_validate, config, data, training) if stage.validate_every else None
            if validate and data.held_out is None:
                validate = None
                log.info("no validations: the test list has too few images of the training list's classes")
            finished = train(training, stream, validate, config.run.seed)
            if kept:
                log.info("encoder: %s", kept.file.in_words())
        finally:
            out.close()
        return 0 if finished else EXIT_INTERRUPTED


train_base, train_meta = partial(train_stage, "base"), partial(train_stage, "meta")


def _validate(
    config: Config, data: StageData, training: hooks.Training, network: PreparedNetwork, step: int
) -> tuple[float, dict[str, Any]]:
    """Score a network on the held-out examples of its stage, draw the first; return the leading score and all."""
    board, examples, out, world = Scoreboard(len(data.held_out_classes)), Examples(8), training.folder, training.world
    length, batch = data.validation_length, config.test.batch
    together = 1 if getattr(data.held_out, "one_by_one", False) else batch
    watch = hooks.Watch(training, length // world.size // together)
    seen: list[Observer] = [board, examples, watch]
    run_pass(network, data.held_out, length, seen, world, "validate", batch, config.data.workers)
    scores, _ = board.gather(world)
    out.scalars("validation", {f"{n}_{k}": s[k] for n, s in scores.items() for k in s if k != "per_class"}, step)
    for number, picture in sorted(entry for part in world.gather(examples.shown) for entry in part.items()):
        out.image(f"validation/{number}", picture, step)
    return scores[FINAL if FINAL in scores else BASE]["miou"], scores


# --- the loop --------------------------------------------------------------------------------------------------------


def train(training: hooks.Training, batches: Iterator[Any], validate: hooks.Validate | None, seed: int) -> bool:
    """Train to the end and return True; False: interrupted, with a checkpoint to resume from.

    Args:
        batches: of the steps that are left, ``accumulate`` of them for each.
        validate: scores the network after the epochs that the stage names; None: never.
    """
    stage, schedule, progress, world = training.stage, training.schedule, training.progress, training.world
    training.prepared.network.train()
    bar = tqdm(total=schedule.steps, initial=progress.step, unit="step", disable=not world.is_main)
    with training.interrupt as interrupt, bar, suppress(hooks.Interrupted):
        hooks.end_epoch(training, validate)  # the run may have ended between a step and its validation
        while progress.step < schedule.steps and not hooks.patience_spent(training):
            rates = set_learning_rates(training.optimizers, stage.optimizers, progress.step, schedule.steps)
            # So a checkpoint holds no random state, and a resumed run draws the dropout masks of an uninterrupted one.
            torch.manual_seed(zlib.crc32(f"{seed} {progress.step} {world.rank}".encode()))
            losses = optimiser_step(training, [next(batches) for _ in range(stage.accumulate)])
            progress.step += 1
            training.ema.update(progress.step)
            hooks.record(training, losses, rates, bar)
            if interrupt.agreed:
                hooks.save(training)
                break
            hooks.end_epoch(training, validate)
            if time.monotonic() - training.saved_at > stage.save_minutes * 60 and not progress.on_record:
                hooks.save(training)
        else:
            hooks.finish(training)
            return True
    world.wait()  # no process ends before the checkpoint is written: its end may end all others
    log.info("interrupted after step %d; train.sh, train_base.py and train.py continue with --resume", progress.step)
    return False


def optimiser_step(training: hooks.Training, parts: list[Any]) -> dict[str, Tensor]:
    """Do one optimiser step over the parts of a local batch; return the mean of each loss over the parts."""
    learner: Any = training.prepared.learner
    optimizers, scaler = training.optimizers.values(), training.scaler
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for i, batch in enumerate(parts):
        is_last = i == len(parts) - 1  # processes sum their gradients in the last part alone
        alone = isinstance(learner, DistributedDataParallel) and not is_last
        with learner.no_sync() if alone else nullcontext():
            with training.prepared.autocast():
                losses = learner(batch).losses
            scaler.scale(sum(losses.values()) / len(parts)).backward()
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value.detach() / len(parts)
    if training.stage.clip_grad_norm is not None:
        for optimizer in optimizers:
            scaler.unscale_(optimizer)
        learnt = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        nn.utils.clip_grad_norm_(learnt, training.stage.clip_grad_norm)
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    return means
