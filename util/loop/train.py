"""The training loop of both stages, over numbered batches; an interrupted run resumes to the same result."""

import math
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from model.checked import checked
from util.files.errors import UserError, log
from util.files.progress import ProgressBar
from util.loop.interrupt import Interrupted
from util.loop.network import PreparedNetwork
from util.loop.observers import TrainingObserver
from util.loop.optim import OptimizersAsOne, clip_gradients, set_learning_rates
from util.loop.processes import ProcessGroup
from util.loop.training import Training


class Share(NamedTuple):
    """The share of a part in a batch."""

    pixels: Tensor | float  # of the valid ones
    images: Tensor | float


WHOLE = Share(1.0, 1.0)  # of a batch in one part


def train_to_end(training: Training, batches: Iterator[Any], observers: Sequence[TrainingObserver]) -> bool:
    """Train to the end and return True; False: a signal interrupted it, after ``interrupted`` of the observers.

    It ends after the last step, or where an observer ends it.
    There are ``training.accumulate`` batches for each of the steps that are left.
    """
    training.prepared.network.train()
    bar = ProgressBar(
        total=training.schedule.steps,
        initial=training.progress.step,
        unit="step",
        disable=not training.world.is_main,
    )
    with training.interrupt, bar, suppress(Interrupted):
        _do_steps(training, batches, observers, bar)
        return True
    training.world.wait()  # no process ends before the checkpoint is written: its end may end all others
    log.info("interrupted after step %d", training.progress.step)
    return False


def _do_steps(
    training: Training, batches: Iterator[Any], observers: Sequence[TrainingObserver], bar: ProgressBar
) -> None:
    """Do the steps that are left; Interrupted: a signal ended them."""
    progress = training.progress
    for observer in observers:
        observer.begin(training, progress.step)
    _record_if_due(training, observers)  # the run may have ended between a step and its validation
    _ask_to_end(training, observers)
    while progress.step < training.schedule.steps and not progress.ended_by:
        _training_step(training, batches, observers, bar)
        if training.interrupt.agreed:
            for observer in observers:
                observer.interrupted(training)
            raise Interrupted
        _record_if_due(training, observers)
        _ask_to_end(training, observers)
    for observer in observers:
        observer.finished(training)


def _training_step(
    training: Training, batches: Iterator[Any], observers: Sequence[TrainingObserver], bar: ProgressBar
) -> None:
    """Do the next step, and show it to the observers."""
    progress = training.progress
    rates = set_learning_rates(
        training.optimizers, training.rules, progress.step, training.schedule.steps, progress.history
    )
    parts = [next(batches) for _ in range(training.accumulate)]
    # So a checkpoint holds no random state, and a resumed run draws the dropout masks of an uninterrupted one.
    torch.manual_seed(zlib.crc32(f"{training.seed} {progress.step} {training.world.rank}".encode()))
    losses = optimiser_step(training, parts, observers)
    progress.step += 1
    training.ema.update(progress.step)
    means = _means_over_processes(training, losses)
    bar.update()
    epoch = f"{progress.step / training.schedule.steps_per_epoch:.1f}/{training.schedule.epochs}"
    bar.set_postfix(loss=f"{means['total']:.3f}", epoch=epoch, refresh=False)
    for observer in observers:
        observer.step(training, means, rates)


def optimiser_step(
    training: Training, parts: Sequence[Any], observers: Sequence[TrainingObserver] = ()
) -> dict[str, Tensor]:
    """Do one step of all optimisers over the parts of a local batch; return the mean of each loss over the parts.

    Parts weigh by their valid pixels in all processes, or for losses that are means over images by their images, so
    that losses are means over those of the batch. A step is left out, which ``progress.skipped`` counts, where an
    observer skips it or its gradients overflow in fp16.
    """
    shares = _shares_of(training.world, parts)
    for optimizer in training.optimizers.values():
        optimizer.zero_grad(set_to_none=True)
    means: dict[str, Tensor] = {}
    for i, (batch, share) in enumerate(zip(parts, shares, strict=True)):
        losses = backward(training.prepared, training.scaler, batch, share, last=i == len(parts) - 1)
        for name, value in losses.items():
            means[name] = means.get(name, 0) + value
    if sum(observer.skips(training) for observer in observers) > 0:  # all are asked, as ``any`` would not
        training.progress.skipped += 1
    else:
        _change_weights(training)
    return means


def backward(
    prepared: PreparedNetwork, scaler: torch.amp.GradScaler, batch: Any, share: Share, last: bool
) -> dict[str, Tensor]:
    """Return the shares of a part of a batch in the losses, detached, and add their gradients.

    Args:
        prepared: the network.
        scaler: of losses in fp16.
        batch: the part.
        share: of the part in the batch.
        last: whether it is the last part, after which processes sum their gradients.
    """
    learner: Any = prepared.learner
    sums_later = isinstance(learner, DistributedDataParallel) and not last
    with learner.no_sync() if sums_later else nullcontext():
        with prepared.autocast():
            output: Any = checked(learner(batch), prepared.network, [batch])
        weights = {name: share.images if name in output.image_losses else share.pixels for name in output.losses}
        losses = {name: weights[name] * loss for name, loss in output.losses.items()}
        scaler.scale(sum(losses.values())).backward()
    return {name: loss.detach() for name, loss in losses.items()}


def _shares_of(world: ProcessGroup, parts: Sequence[Any]) -> list[Share]:
    """Return the share of each part in the batch, counted over all processes."""
    if len(parts) == 1:
        return [WHOLE]
    pixels = torch.stack([part.valid_pixels() for part in parts])
    images = pixels.new_tensor([len(part.tensors()[0]) for part in parts])
    shares = world.sum(torch.stack([pixels, images], dim=1).float())
    shares /= shares.sum(0).clamp(min=1)
    return [Share(*share) for share in shares]


def check_learning(finite: bool, step: int, what: str) -> None:
    """Refuse (UserError) a loss or weights that are not finite."""
    if not finite:
        raise UserError(
            f"step {step}: {what} is not finite",
            fix="lower the learning rate; --overwrite begins again, --resume --allow-changes goes on from a checkpoint",
        )


def _change_weights(training: Training) -> None:
    """Change the weights by their gradients, by all optimisers or, if one gradient is not finite in fp16, by none."""
    together: Any = OptimizersAsOne(training.optimizers.values())
    training.scaler.unscale_(together)
    clip_gradients(training.optimizers, training.rules)
    if training.scaler.step(together) is None:  # left out; else what the step returns, True
        training.progress.skipped += 1
    training.scaler.update()


def _means_over_processes(training: Training, losses: dict[str, Tensor]) -> dict[str, float]:
    """Return the losses of a step as means over the processes that have them, and ``total``, the mean of their sums.

    Whether a process was asked to stop travels with the losses. UserError: they are not finite.
    """
    processes = Counter(chain.from_iterable(training.world.gather([*losses])))  # name -> how many have this loss
    nothing = torch.zeros_like(next(iter(losses.values())), dtype=torch.float32)
    values = [losses.get(name, nothing).float() for name in processes]
    values.append(torch.full_like(nothing, float(training.interrupt.requested)))
    *sums, asked = training.world.sum(torch.stack(values)).cpu().double().tolist()
    training.interrupt.agreed = asked > 0
    by_name = {name: total / processes[name] for name, total in zip(processes, sums, strict=True)}
    by_name["total"] = sum(sums) / training.world.size
    infinite = ", ".join(name for name, mean in by_name.items() if not math.isfinite(mean))
    check_learning(not infinite, training.progress.step, f"the loss {infinite}")
    return by_name


def _record_if_due(training: Training, observers: Sequence[TrainingObserver]) -> None:
    """Let the observers write a record at the end of an epoch, and where one of them finds it due."""
    progress = training.progress
    is_due = training.ends_epoch or any(observer.is_record_due(training) for observer in observers)
    if progress.on_record or not (is_due or progress.ended_by):
        return
    entry: dict[str, Any] = {"step": progress.step}
    for observer in observers:
        observer.record(training, entry)
    progress.history.append(entry)
    for observer in observers:
        observer.recorded(training, entry)


def _ask_to_end(training: Training, observers: Sequence[TrainingObserver]) -> None:
    """Note the observer that ends the training after this step, which then has a record."""
    progress = training.progress
    if progress.step == training.schedule.steps or progress.ended_by:
        return
    progress.ended_by = next((observer.name for observer in observers if observer.ends(training)), "")
    if progress.ended_by:
        log.info("ended after step %d of %d by %s", progress.step, training.schedule.steps, progress.ended_by)
        _record_if_due(training, observers)
