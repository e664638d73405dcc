"""A training's work beside its steps: records, validations, checkpoints, patience, Ctrl-C."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from model.decides import Decides
from util.cli import STOPS
from util.config.same import differences
from util.config.settings import StageSettings
from util.files.errors import UserError
from util.files.progress import ProgressBar
from util.run import checkpoint
from util.run.checkpoint import Checkpoint
from util.run.folder import RunFolder
from util.run.network import PreparedNetwork
from util.run.origin import Origin
from util.run.processes import ProcessGroup
from util.run.run import ALLOW, BEST, LAST, METRICS, PREVIOUS, StageFolder, check_continues
from util.train.curves import Curves
from util.train.optim import EMA, StepSchedule, copy_tensors, load_optimizers

log = logging.getLogger("symnet")
LOG_STEPS = 20  # between points of the curves
HANG_UP = getattr(signal, "SIGHUP", signal.SIGTERM)  # of a terminal that closes; Windows has none

# Returns (score that picks the best checkpoint, everything to record) for the network and the step.
Validate = Callable[[PreparedNetwork, int], tuple[float, dict[str, Any]]]


@dataclass
class Progress:
    """The position of a run and its history, kept in its checkpoints."""

    step: int = 0  # steps done
    best: float = -math.inf
    best_epoch: float = 0  # n - 0.5 is the middle of epoch n
    minutes: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)  # a record per epoch and per validation midway
    totals: dict[str, float] = field(default_factory=dict)  # sums of the losses since the epoch began
    skipped: int = 0  # steps since then that fp16 left out, since gradients overflowed

    @property
    def on_record(self) -> bool:
        """Whether the newest record is of this step, or the run has not begun."""
        return self.step == (self.history[-1]["step"] if self.history else 0)


@dataclass
class Training:
    """A network in training for one stage, and all that its checkpoints hold."""

    prepared: PreparedNetwork
    optimizers: dict[str, Optimizer]
    ema: EMA
    stage: StageSettings
    schedule: StepSchedule
    state: dict[str, Any]  # entries of the checkpoints beside weights, optimisers, EMA and progress
    folder: RunFolder  # of checkpoints and records; only the main process writes
    world: ProcessGroup
    curves: Curves = field(default_factory=Curves)
    progress: Progress = field(default_factory=Progress)
    interrupt: Interrupt = field(default_factory=lambda: Interrupt())
    saved_at: float = field(default_factory=time.monotonic)

    @cached_property
    def scaler(self) -> torch.amp.GradScaler:
        """Of the losses in fp16, whose gradients would be too small; it does nothing in other precisions."""
        return torch.amp.GradScaler(self.prepared.device.type, enabled=self.prepared.precision == "fp16")


def record(training: Training, losses: dict[str, Tensor], rates: dict[str, float], bar: ProgressBar) -> None:
    """Add the losses of a step, the mean over processes, to the sums of the epoch, to the bar and to the curves.

    Whether a process was asked to stop travels with the losses, so that a step waits once for the GPU.
    """
    progress = training.progress
    world = training.world
    values = [loss.float() for loss in losses.values()]
    values.append(torch.full_like(values[0], float(training.interrupt.requested)))
    sums = world.sum(torch.stack(values)).cpu().double()
    *means, asked = (sums / world.size).tolist()
    training.interrupt.agreed = asked > 0
    mean_losses = dict(zip(losses, means, strict=True))
    total = sum(mean_losses.values())
    mean_losses["total"] = total
    check_finite(math.isfinite(total), progress.step, f"the loss {mean_losses}")
    for name, value in mean_losses.items():
        progress.totals[name] = progress.totals.get(name, 0.0) + value
    epoch = f"{progress.step / training.schedule.steps_per_epoch:.1f}/{training.schedule.epochs}"
    bar.update()
    bar.set_postfix(loss=f"{total:.3f}", epoch=epoch, refresh=False)
    if progress.step % LOG_STEPS == 0 or progress.step == 1:
        training.curves.scalars("loss", mean_losses, progress.step)
        training.curves.scalars("lr", rates, progress.step)


def check_finite(finite: bool, step: int, what: str) -> None:
    """Refuse (UserError) a loss or weights that are not finite."""
    if not finite:
        fix = f"lower the learning rate, then continue from the last checkpoint by train.sh --resume {ALLOW}"
        raise UserError(f"step {step}: {what} is not finite; {fix}")


def end_epoch(training: Training, validate: Validate | None) -> None:
    """At the end of an epoch, and where a validation is due: validate, and write a record and checkpoints.

    Due are every ``validate_every`` epochs, the middle of such epochs by ``validate_midway``, and the end. Without
    validations the newest weights are the best.
    """
    progress = training.progress
    is_end = progress.step % training.schedule.steps_per_epoch == 0
    is_due = validate is not None and _validation_due(training)
    if progress.on_record or not (is_end or is_due):
        return
    entry: dict[str, Any] = {"epoch": _epochs_done(training), "step": progress.step}
    if is_end:
        _record_losses(training, entry)
    is_best = validate is None
    if validate is not None and is_due:
        is_best = _record_validation(training, validate, entry)
    progress.history.append(entry)
    if is_end:
        progress.totals = {}
        progress.skipped = 0
    if is_best:
        with training.ema.applied():
            save(training, BEST, resumable=False)
    save(training)
    write_metrics(training, finished=False)


def _midway(training: Training) -> bool:
    """Return whether this is the middle of an epoch after the first, and validations midway are wanted."""
    length = training.schedule.steps_per_epoch
    epochs, steps = divmod(training.progress.step, length)
    return training.stage.validate_midway and epochs > 0 and 0 < steps == length // 2


def _validation_due(training: Training) -> bool:
    """Return whether a validation is due; the middle of an epoch has one if its end has."""
    length = training.schedule.steps_per_epoch
    step = training.progress.step
    if _midway(training):
        step = (step // length + 1) * length
    interval = max(round(training.stage.validate_every * length), 1)
    return step % interval == 0 or step == training.schedule.steps


def _epochs_done(training: Training) -> float:
    """Return the number of epochs that are done, n + 0.5 in the middle of one."""
    length = training.schedule.steps_per_epoch
    epochs, steps = divmod(training.progress.step, length)
    if steps == 0:
        return epochs
    return epochs + (0.5 if _midway(training) else round(steps / length, 3))


def _record_losses(training: Training, entry: dict[str, Any]) -> None:
    """Add the mean losses of the epoch that ends to its record, and the steps that were left out."""
    progress = training.progress
    length = training.schedule.steps_per_epoch
    entry["losses"] = {name: total / length for name, total in progress.totals.items()}
    note = ""
    if progress.skipped:
        entry["skipped_steps"] = progress.skipped
        note = f"; {progress.skipped} of {length} steps were skipped, as gradients overflowed in fp16"
    log.info("epoch %d: loss %.4f%s", entry["epoch"], entry["losses"]["total"], note)


def _record_validation(training: Training, validate: Validate, entry: dict[str, Any]) -> bool:
    """Validate, add the scores to the record, and return whether they are the best so far."""
    progress = training.progress
    save(training)  # a validation may take long, and the run may end in it
    with training.ema.applied():
        score, entry["validation"] = validate(training.prepared, progress.step)
    is_best = score > progress.best
    if is_best:
        progress.best = score
        progress.best_epoch = entry["epoch"]
    log.info("epoch %g: validation %.2f %% mIoU (best %.2f)", entry["epoch"], score, progress.best)
    return is_best


def patience_spent(training: Training) -> bool:
    """Return whether the newest validation came at least ``patience`` epochs after the best one."""
    progress = training.progress
    patience = training.stage.patience
    amid_epoch = progress.step % training.schedule.steps_per_epoch != 0
    if not patience or not progress.best_epoch or amid_epoch:
        return False
    newest = max(entry["epoch"] for entry in progress.history if "validation" in entry)
    return newest - progress.best_epoch >= patience


def finish(training: Training) -> None:
    """Write the last checkpoint of a training that is done, without optimisers, and its metrics."""
    if training.progress.step < training.schedule.steps:
        log.info("stopped: no better validation for %d epochs", training.stage.patience)
    else:  # a finished training is never resumed
        save(training, LAST, resumable=False)
        if training.world.is_main:
            (training.folder.path / PREVIOUS).unlink(missing_ok=True)
    best = training.folder.path / BEST
    if training.world.is_main and best.exists():  # so that copies of it say so, too
        checkpoint.save(best, {**checkpoint.read(best).entries, "finished": True})
    write_metrics(training, finished=True)


def write_metrics(training: Training, finished: bool) -> None:
    """Write the losses and scores so far."""
    progress = training.progress
    best = None if math.isinf(progress.best) else {"score": progress.best, "epoch": progress.best_epoch}
    content = {"finished": finished, "best": best, "minutes": progress.minutes, "epochs": progress.history}
    training.folder.write_json(METRICS, content)


def save(training: Training, name: str = LAST, resumable: bool = True) -> None:
    """Add the time since the newest checkpoint to the run's minutes; the main process writes a checkpoint.

    The last one has the EMA beside the weights; a resumable one has the state of the optimisers, and the one before it
    stays as ``previous.pth``.
    """
    progress = training.progress
    folder = training.folder.path
    now = time.monotonic()
    progress.minutes += (now - training.saved_at) / 60
    training.saved_at = now
    if not training.world.is_main:
        return
    weights = checkpoint.on_cpu(training.prepared.network.state_dict())
    for tensor, values in weights.items():  # the loss may still be finite, its gradients not
        if values.is_floating_point():
            check_finite(bool(values.isfinite().all()), progress.step, tensor)
    content = {**training.state, "weights": weights, "progress": asdict(progress)}
    if resumable:
        content["optimizers"] = {key: optimizer.state_dict() for key, optimizer in training.optimizers.items()}
        content["scaler"] = training.scaler.state_dict()
    if name == LAST:
        content["ema"] = training.ema.average
    checkpoint.save(folder / name, content, previous=folder / PREVIOUS if resumable else None)


def resume(training: Training, allow_changes: bool) -> None:
    """Continue from the newest checkpoint of the folder: weights, optimisers, EMA and position.

    UserError: this training cannot continue the checkpoint (``check_continues``), or its parameters are others.
    """
    stored = StageFolder(training.folder.path).newest()
    if allow_changes:
        _keep_length(training, stored)
    check_continues(stored, Origin.of_training(training.state), allow_changes)
    path = stored.path
    content = stored.entries
    if changed := differences(content["config"], training.state["config"], Decides.NOTHING):
        log.info("settings changed since the checkpoint: %s", ", ".join(changed))
    checkpoint.load_state(training.prepared.network, replace(stored, weights=content["weights"]))
    try:
        if "optimizers" in content:  # a training at its end has none
            load_optimizers(training.optimizers, content["optimizers"])
            copy_tensors(content.get("ema", {}), training.ema.average)
            if content.get("scaler") and training.scaler.is_enabled():
                training.scaler.load_state_dict(content["scaler"])
    except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        fix = "undo the changed settings, or start again with --overwrite"
        raise UserError(f"{path}: its optimisers or EMA do not fit the model's parameters ({error}); {fix}") from None
    photos = checkpoint.photos_of_both(content.get("photos"), training.state.get("photos"))
    training.state |= {"base": content.get("base", []), "initial": content.get("initial"), "photos": photos}
    training.progress = Progress(**content["progress"])
    log.info("resumed %s after step %d of %d", path, training.progress.step, training.schedule.steps)


def _keep_length(training: Training, stored: Checkpoint) -> None:
    """Let a training keep the steps that it was begun with where its list is another: a photo was left out."""
    begun = stored.entries.get("schedule")
    if begun is None or stored.facts.origin.list == training.state["list"]:
        return
    schedule = StepSchedule(**begun)
    if (schedule.batch, schedule.epochs) == (training.schedule.batch, training.schedule.epochs):
        training.schedule = schedule
        training.state["schedule"] = begun


class Interrupted(Exception):
    """A signal ends a validation; the checkpoint was written before it."""


@dataclass
class Watch:
    """The observer of a validation that ends it after a signal to any process: in all of them after the same batch."""

    training: Training
    left: int  # batches until one process has no more; a signal after them takes effect at the end

    def add(self, *_: Any) -> None:
        """See a batch."""
        self.left -= 1
        if self.left >= 0 and self.training.world.any(self.training.interrupt.requested):
            raise Interrupted


class Interrupt:
    """A context in which the first signal sets ``requested``; the earlier signal handlers are restored at its end."""

    def __init__(self) -> None:
        self.requested = False
        self.agreed = False  # whether any process was asked, which all know after a step
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        numbers = {signal.SIGINT, *STOPS}
        if signal.getsignal(HANG_UP) != signal.SIG_IGN:  # as nohup has it
            numbers.add(HANG_UP)
        for number in numbers:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
