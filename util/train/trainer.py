"""The training loop of both stages, over numbered batches; an interrupted run resumes to the same result."""

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from util.files.progress import ProgressBar
from util.run.loading import part_weights
from util.run.network import PreparedNetwork
from util.train import bookkeeping
from util.train.bookkeeping import Interrupted, Training, Validate
from util.train.optim import OptimizersAsOne, clip_gradients, set_learning_rates

log = logging.getLogger("symnet")
SAVE_SECONDS = 600  # longest time between writes of the last checkpoint


def run_steps(training: Training, batches: Iterator[Any], validate: Validate | None, seed: int) -> bool:
    """Train to the end and return True; False: interrupted, with a checkpoint to resume from.

    There are ``accumulate`` batches for each of the steps that are left. ``validate`` scores the network after the
    epochs that the stage names; None: never.
    """
    stage = training.stage
    schedule = training.schedule
    progress = training.progress
    world = training.world
    training.prepared.network.train()
    bar = ProgressBar(total=schedule.steps, initial=progress.step, unit="step", disable=not world.is_main)
    with training.interrupt as interrupt, bar, suppress(Interrupted):
        bookkeeping.end_epoch(training, validate)  # the run may have ended between a step and its validation
        while progress.step < schedule.steps and not bookkeeping.patience_spent(training):
            rates = set_learning_rates(training.optimizers, stage.optimizers, progress.step, schedule.steps)
            parts = [next(batches) for _ in range(stage.accumulate)]
            # So a checkpoint holds no random state, and a resumed run draws the dropout masks of an uninterrupted one.
            torch.manual_seed(zlib.crc32(f"{seed} {progress.step} {world.rank}".encode()))
            losses = optimiser_step(training, parts)
            progress.step += 1
            training.ema.update(progress.step)
            bookkeeping.record(training, losses, rates, bar)
            if interrupt.agreed:
                bookkeeping.save(training)
                break
            bookkeeping.end_epoch(training, validate)
            is_save_due = time.monotonic() - training.saved_at > SAVE_SECONDS
            if is_save_due and not progress.on_record:
                bookkeeping.save(training)
        else:
            bookkeeping.finish(training)
            return True
    world.wait()  # no process ends before the checkpoint is written: its end may end all others
    log.info("interrupted after step %d", progress.step)
    return False


def optimiser_step(training: Training, parts: list[Any]) -> dict[str, Tensor]:
    """Do one step of all optimisers over the parts of a local batch; return the mean of each loss over the parts.

    Parts weigh by their examples. In fp16 gradients that overflow leave the step out, which ``progress.skipped``
    counts.
    """
    weights = part_weights(training.schedule.batch, training.world.size, len(parts))
    for optimizer in training.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for i, (batch, weight) in enumerate(zip(parts, weights, strict=True)):
        losses = backward(training.prepared, training.scaler, batch, weight, last=i == len(parts) - 1)
        for name, value in losses.items():
            means[name] = means.get(name, 0) + weight * value.detach()
    _step(training)
    return means


def backward(
    prepared: PreparedNetwork, scaler: torch.amp.GradScaler, batch: Any, weight: float, last: bool
) -> dict[str, Tensor]:
    """Return the losses of a part of a batch, and add its share to the gradients.

    Args:
        prepared: the network.
        scaler: of losses in fp16.
        batch: the part.
        weight: of the part in the batch.
        last: whether it is the last part, after which processes sum their gradients.
    """
    learner: Any = prepared.learner
    synchronising: AbstractContextManager[None] = nullcontext()
    if isinstance(learner, DistributedDataParallel) and not last:  # the last sums over processes
        synchronising = learner.no_sync()
    with synchronising:
        with prepared.autocast():
            losses = learner(batch).losses
        scaler.scale(weight * sum(losses.values())).backward()
    return losses


def _step(training: Training) -> None:
    """Change the weights by their gradients, by all optimisers or, if one gradient is not finite in fp16, by none."""
    together: Any = OptimizersAsOne(training.optimizers.values())
    training.scaler.unscale_(together)
    clip_gradients(training.optimizers, training.stage.optimizers)
    if training.scaler.step(together) is None:
        training.progress.skipped += 1
    training.scaler.update()
