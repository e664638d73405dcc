"""The training loop of both stages, over numbered batches; an interrupted run resumes to the same result."""

import logging
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from util.train import hooks
from util.train.gradients import backward, replay
from util.train.optim import set_learning_rates

log = logging.getLogger("symnet")


def train(training: hooks.Training, batches: Iterator[Any], validate: hooks.Validate | None, seed: int) -> bool:
    """Train to the end and return True; False: interrupted, with a checkpoint to resume from.

    There are ``accumulate`` batches for each of the steps that are left. ``validate`` scores the network after the
    epochs that the stage names; None: never.
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
    optimizers, scaler = training.optimizers.values(), training.scaler
    for optimizer in optimizers:
        optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for i, batch in enumerate(parts):
        if training.replayed is None:
            losses = backward(training.prepared, scaler, batch, len(parts), last=i == len(parts) - 1)
        else:
            losses = replay(training.replayed, batch)
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
