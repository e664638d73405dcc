"""Built-in observers of a training: losses, validations, checkpoints and patience."""

from __future__ import annotations

import math
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from model.decides import Decides
from util.config.same import differences
from util.config.settings import StageSettings
from util.files.errors import as_user_error, log, one_line
from util.loop.interrupt import Interrupted
from util.loop.network import PreparedNetwork
from util.loop.observers import TrainingObserver
from util.loop.optim import StepSchedule, copy_tensors, load_optimizers
from util.loop.train import check_learning
from util.loop.training import Progress, Training
from util.run.folder import BEST, LAST, METRICS, PREVIOUS, RunFolder
from util.run.run import check_continues
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint
from util.weights.fill import fill
from util.weights.origin import Origin

NOTHING = 0.005  # mIoU in percent, below which it is shown as 0.00
SAVE_SECONDS = 600  # longest time between writes of the last checkpoint
PEAK_UNIT = 2**20 if sys.platform == "darwin" else 2**10  # of a process's largest memory, for MiB

# Returns (score that picks the best checkpoint, everything to record) for the network and the step.
Validate = Callable[[PreparedNetwork, int], tuple[float, dict[str, Any]]]


class Losses(TrainingObserver):
    """Records each epoch's number, its mean losses over the steps that have them, and the steps that were left out."""

    def step(self, training: Training, losses: dict[str, float], rates: dict[str, float]) -> None:
        """Add the losses of a step to the sums of the epoch; after the first step say what they do not reach."""
        progress = training.progress
        for name, value in losses.items():
            progress.totals[name] = progress.totals.get(name, 0.0) + value
            progress.counts[name] = progress.counts.get(name, 0) + 1
        if progress.step == 1 and (names := _not_reached(training)):
            log.info("no loss of step 1 reaches these learnable parameters: %s", one_line(", ".join(names)))

    def record(self, training: Training, entry: dict[str, Any]) -> None:
        """Add the mean losses of an epoch that ends."""
        epochs = training.progress.step / training.schedule.steps_per_epoch
        entry["epoch"] = int(epochs) if training.ends_epoch else round(epochs, 3)  # a whole one at the end of each
        if not training.ends_epoch:
            return
        progress = training.progress
        length = training.schedule.steps_per_epoch
        entry["losses"] = {name: total / progress.counts.get(name, length) for name, total in progress.totals.items()}
        note = ""
        if progress.skipped:
            entry["skipped_steps"] = progress.skipped
            note = f"; {progress.skipped} of {length} steps were left out"
        parts = [f"{name} {mean:.4f}" for name, mean in entry["losses"].items() if name != "total"]
        several = f" ({', '.join(parts)})" if len(parts) > 1 else ""
        log.info("epoch %d: loss %.4f%s%s", entry["epoch"], entry["losses"]["total"], several, note)

    def recorded(self, training: Training, entry: dict[str, Any]) -> None:
        """Begin the sums of the next epoch."""
        if training.ends_epoch:
            training.progress.totals = {}
            training.progress.counts = {}
            training.progress.skipped = 0


@dataclass
class Validation(TrainingObserver):
    """Scores the moving average of the weights, and notes the best score so far.

    Due are every ``validate_every`` epochs, the middle of such epochs by ``validate_midway``, and the end, also one
    inside an epoch. One line says that no object is found any more: after two validations, or a single one.
    """

    validate: Validate
    stage: StageSettings
    checkpoints: Checkpoints
    empty: list[int] = field(default_factory=list)  # the steps of the newest validations, if these found nothing

    def is_record_due(self, training: Training) -> bool:
        """Return whether a validation is due; the middle of an epoch has one if its end has."""
        length = training.schedule.steps_per_epoch
        step = training.progress.step
        if self._is_midway(training):
            step = (step // length + 1) * length
        interval = max(round(self.stage.validate_every * length), 1)
        return step % interval == 0 or step == training.schedule.steps or bool(training.progress.ended_by)

    def record(self, training: Training, entry: dict[str, Any]) -> None:
        """Validate, and add the scores."""
        if not self.is_record_due(training):
            return
        progress = training.progress
        if self._is_midway(training):
            entry["epoch"] = progress.step // training.schedule.steps_per_epoch + 0.5
        self.checkpoints.save(training)  # a validation may take long, and the run may end in it
        with training.ema.applied():
            score, entry["validation"] = self.validate(training.prepared, progress.step)
        if score > progress.best:
            progress.best = score
            progress.best_epoch = entry["epoch"]
        log.info("epoch %g: validation %.2f %% mIoU (best %.2f)", entry["epoch"], score, progress.best)
        self.empty = [] if score >= NOTHING else [*self.empty, progress.step]
        if len(self.empty) == 2 or (len(self.empty) == 1 and progress.step == training.schedule.steps):
            log.info("all is called background since step %d: try another learning rate, or more steps", self.empty[0])

    def _is_midway(self, training: Training) -> bool:
        """Return whether this is the middle of an epoch after the first, and validations midway are wanted."""
        length = training.schedule.steps_per_epoch
        epochs, steps = divmod(training.progress.step, length)
        return self.stage.validate_midway and epochs > 0 and 0 < steps == length // 2


@dataclass
class Patience(TrainingObserver):
    """Ends a training whose newest validation came at least so many epochs after the best one."""

    epochs: int  # 0: never

    def ends(self, training: Training) -> bool:
        """Return whether the patience is spent, at the end of an epoch."""
        progress = training.progress
        if not self.epochs or not progress.best_epoch or not training.ends_epoch:
            return False
        newest = max(entry["epoch"] for entry in progress.history if "validation" in entry)
        return newest - progress.best_epoch >= self.epochs


@dataclass
class Checkpoints(TrainingObserver):
    """Writes the last checkpoint, the best one and ``metrics.json``; only the main process does.

    Without validations the newest weights are the best.
    """

    folder: RunFolder
    state: dict[str, Any]  # entries of the checkpoints beside weights, optimisers, EMA and progress
    validates: bool = True  # whether validations choose the best one
    saved_at: float = field(default_factory=time.monotonic)
    processor_at: float = field(default_factory=time.process_time)

    def step(self, training: Training, losses: dict[str, float], rates: dict[str, float]) -> None:
        """Count the step by its precision, and write the last checkpoint if the newest one is old."""
        steps = self.state.setdefault("computed_in", {})
        steps[training.prepared.precision] = steps.get(training.prepared.precision, 0) + 1
        if time.monotonic() - self.saved_at > SAVE_SECONDS:
            self.save(training)

    def recorded(self, training: Training, entry: dict[str, Any]) -> None:
        """Write the checkpoints and the record."""
        is_best = "validation" in entry and training.progress.best_epoch == entry["epoch"]
        if is_best or not self.validates:
            self._save_best(training)
        self.save(training)

    def interrupted(self, training: Training) -> None:
        """Write a checkpoint to resume from."""
        self.save(training)

    def finished(self, training: Training) -> None:
        """Write the last checkpoint of a training that is done, without optimisers, and its metrics.

        One that an observer ended can still be continued; without a validation its newest weights are the best.
        """
        path = self.folder.path
        if training.progress.step == training.schedule.steps:  # a finished training is never resumed
            self.save(training, LAST, resumable=False)
            if training.world.is_main:
                (path / PREVIOUS).unlink(missing_ok=True)
        elif not (path / BEST).exists():
            self._save_best(training)
        if training.world.is_main and (path / BEST).exists():
            self._say_end(path / BEST, training.progress)
        self._write_metrics(training, finished=True)

    def _say_end(self, path: Path, progress: Progress) -> None:
        """Let a checkpoint of a training that is done say so, and what it took, as copies of it then do."""
        stored = checkpoint.read(path)
        cost = stored.cost if stored.finished else progress.cost  # one that is asked for again has used what it had
        end = {"finished": True, "ended_by": progress.ended_by, "cost": cost}
        checkpoint.save(path, {**stored.entries, "observers": self.state.get("observers", {}), **end})

    def _save_best(self, training: Training) -> None:
        with training.ema.applied():
            self.save(training, BEST, resumable=False)

    def save(self, training: Training, name: str = LAST, resumable: bool = True) -> None:
        """Let the main process write a checkpoint, with the training's cost up to now.

        The last one has the EMA beside the weights, and the record of the training with it; a resumable one has the
        state of the optimisers, and the one before it stays as ``previous.pth``. UserError: the folder was moved.
        """
        progress = training.progress
        folder = self.folder.path
        self._count_cost(progress)
        if not training.world.is_main:
            return
        self.folder.check_place()
        weights = checkpoint.on_cpu(training.prepared.network.stored_state())
        for tensor, values in weights.items():  # the loss may still be finite, its gradients not
            if values.is_floating_point():
                check_learning(bool(values.isfinite().all()), progress.step, tensor)
        content = {**self.state, "weights": weights, "progress": asdict(progress)}
        if resumable:
            content["optimizers"] = {key: optimizer.state_dict() for key, optimizer in training.optimizers.items()}
            content["scaler"] = training.scaler.state_dict()
        if name == LAST:
            content["ema"] = training.ema.average
        checkpoint.save(folder / name, content, previous=folder / PREVIOUS if resumable else None)
        if name == LAST:
            self._write_metrics(training, finished=False)

    def _count_cost(self, progress: Progress) -> None:
        """Add the time since the newest checkpoint, and the largest memory up to now."""
        now, processor = time.monotonic(), time.process_time()
        progress.minutes += (now - self.saved_at) / 60
        progress.processor_minutes += (processor - self.processor_at) / 60
        self.saved_at, self.processor_at = now, processor
        progress.peak_mib = max(progress.peak_mib, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / PEAK_UNIT)

    def _write_metrics(self, training: Training, finished: bool) -> None:
        """Write the losses and scores so far."""
        progress = training.progress
        content: dict[str, Any] = {
            "finished": finished,
            "best": None if math.isinf(progress.best) else {"score": progress.best, "epoch": progress.best_epoch},
            "minutes": progress.minutes,
            "processor_minutes": progress.processor_minutes,
            "epochs": progress.history,
        }
        if progress.ended_by:
            content["ended_by"] = progress.ended_by
        self.folder.write_json(METRICS, content)


def _not_reached(training: Training) -> list[str]:
    """Return the names of the parameters that learn and have no gradient."""
    return [
        name
        for name, parameter in training.prepared.network.named_parameters()
        if parameter.requires_grad and parameter.grad is None
    ]


def resume(training: Training, stored: Checkpoint, state: dict[str, Any], allow_changes: bool) -> None:
    """Give a training the weights, optimisers, EMA and position of its checkpoint.

    Args:
        training: before its first step.
        stored: the newest checkpoint of its folder.
        state: what the checkpoints of the training will tell beside that (``Checkpoints``).
        allow_changes: whether it may differ in what decides weights.

    Raises:
        UserError: this training cannot continue the checkpoint (``check_continues``), or its parameters are others.
    """
    check_continues(stored, Origin.of_training(state), allow_changes)
    if changed := differences(stored.config or {}, state["config"], Decides.NOTHING):
        log.info("settings changed since the checkpoint: %s", ", ".join(changed))
    training.progress = Progress(**stored.state.progress)
    if allow_changes:  # the observers are asked again
        training.progress.ended_by = ""
    fill(training.prepared.network, replace(stored, weights=stored.state.weights))
    if stored.state.optimizers:  # else of a training at its end
        _restore_optimizers(training, stored)
    if stored.unread:
        log.warning("%s; continuing from the one before", stored.unread)
    log.info("resumed %s after step %d of %d", stored.path, training.progress.step, training.schedule.steps)


def _restore_optimizers(training: Training, stored: Checkpoint) -> None:
    """Give a training the state of optimisers and EMA of its checkpoint; UserError: they do not fit it."""
    with as_user_error(
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        before=f"{stored.path}: its optimisers or EMA do not fit the model's parameters (",
        after="); start again with --overwrite",
    ):
        load_optimizers(training.optimizers, stored.state.optimizers)
        copy_tensors(stored.state.ema, training.ema.average)
        if stored.state.scaler and training.scaler.is_enabled():
            training.scaler.load_state_dict(stored.state.scaler)


def schedule_to_continue(planned: StepSchedule, stored: Checkpoint, images: str) -> StepSchedule:
    """Return the steps that a training was begun with where its list (``images``) is another: a photo was left out.

    Otherwise, and where batch or epochs are others, return the steps that are planned today.
    """
    if stored.origin.schedule is None or stored.origin.list == images:
        return planned
    begun = StepSchedule(**stored.origin.schedule)
    is_same = (begun.batch, begun.epochs) == (planned.batch, planned.epochs)
    return begun if is_same else planned


@dataclass
class StopOnSignal:
    """Ends a validation after a signal to any process: in all processes after the same batch."""

    training: Training
    left: int  # examples that every process has left; a signal in a last batch takes effect at the end

    def add(self, numbers: list[int], *_: Any) -> None:
        """See a batch."""
        self.left -= len(numbers)
        if self.left > 0 and self.training.world.any(self.training.interrupt.requested):
            raise Interrupted
