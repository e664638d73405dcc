"""The training loop of both stages, over numbered batches; an interrupted run resumes to the same result."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from tqdm import tqdm

from model.contract import Trainable
from util.checkpoints import checkpoint
from util.checkpoints.resume import ALLOW, check_continues
from util.config.settings import StageSettings
from util.data.episodes import EpisodeDataset
from util.errors import UserError
from util.report.run_folder import RunFolder
from util.run.device import seed_step
from util.run.folders import BEST, LAST, METRICS, PREVIOUS
from util.run.loading import batches, training_numbers
from util.run.network import FLOAT32, PreparedNetwork, prepare_network
from util.run.processes import World
from util.train.kept_features import FeatureFile, KeptEpisodes
from util.train.optim import EMA, build_optimizers, load_optimizers, set_learning_rates
from util.train.schedule import Progress, StepSchedule

log = logging.getLogger("symnet")

NOT_FINITE = f"lower the learning rate, then start from the last checkpoint with --resume {ALLOW}"

# Returns (score that picks the best checkpoint, everything to record) for the network and the step.
Validate = Callable[[PreparedNetwork, int], tuple[float, dict[str, Any]]]


@dataclass(frozen=True)
class TrainerOptions:
    """The settings of one training.

    Attributes:
        stage: epochs, batch, optimisers, validations.
        key: the stage's section in the config, for messages.
        epoch_length: training examples of an epoch.
        precision, compile, seed: as ``run.precision``, ``run.compile`` and ``run.seed``.
        workers: loader processes, 0 for none.
        state: entries of the checkpoints beside weights and progress: stage, config, data fingerprint.
        allow_changes: whether a run may resume with other settings that decide its result.
    """

    stage: StageSettings
    key: str
    epoch_length: int
    precision: str = FLOAT32
    compile: bool = False
    seed: int = 0
    workers: int = 0
    state: dict[str, Any] = field(default_factory=dict)
    allow_changes: bool = False


class Trainer:
    """Trains one network for one stage.

    Args:
        network: declares the parameters that learn and returns its losses; it is moved to the device.
        dataset: item n is training example number n, augmented.
        validate: scores the network after the epochs that the stage names.
        folder: of checkpoints, records and curves; only the main process writes.

    Raises:
        UserError: the model has nothing to train, or the batch is too small for the processes.
    """

    def __init__(
        self,
        network: Trainable,
        dataset: Dataset,
        validate: Validate,
        folder: RunFolder,
        world: World,
        options: TrainerOptions,
    ):
        self.dataset, self.folder, self.world, self.options = dataset, folder, world, options
        self.stage = stage = options.stage
        self.validate = validate if stage.validate_every else None
        self.schedule = StepSchedule.from_settings(stage, options.epoch_length, world.size, options.key)
        self.network = network
        self.prepared = prepare_network(network, world.device, options.precision, options.compile, world.size)
        groups = network.param_groups()
        if not groups:
            raise UserError("this model has nothing to train; test it as it is")
        self.optimizers = build_optimizers(groups, stage.optimizers)
        self.ema = EMA(network, stage.ema_decay) if stage.ema_decay else None
        self.kept = None
        if stage.cache_gib is not None:
            file = FeatureFile(folder.path, stage.cache_gib / world.size)
            self.kept = KeptEpisodes(cast(EpisodeDataset, dataset), self.prepared, file, options.key)
        self.progress = Progress()
        self._saved_at = self._started_at = time.monotonic()

    def resume(self, content: dict[str, Any]) -> None:
        """Continue from a checkpoint's content: weights, optimisers and position.

        Raises:
            UserError: as ``check_continues``, or its optimisers are of other parameters.
        """
        changed = check_continues(
            content, self.options.state, asdict(self.schedule), self.folder.path, self.options.allow_changes
        )
        if changed:
            log.info("settings changed since the checkpoint: %s", ", ".join(changed))
        checkpoint.load_weights(self.network, content["weights"], str(self.folder.path / LAST))
        try:
            if "optimizers" in content:  # a training at its end has none
                load_optimizers(self.optimizers, content["optimizers"])
                if self.ema is not None:
                    self.ema.load(content[checkpoint.EMA])
        except (KeyError, ValueError, TypeError, AttributeError, RuntimeError) as error:
            raise UserError(
                f"{self.folder.path / LAST}: optimisers or EMA are of other parameters ({error}); undo the changed "
                "settings, or start again with --overwrite"
            ) from None
        self.progress = Progress(**content["progress"])
        self.folder.resumed_at = self.progress.step + 1
        log.info("resumed after step %d of %d", self.progress.step, self.schedule.steps)

    def fit(self) -> bool:
        """Train to the end and return True; False: interrupted, with a checkpoint to resume from."""
        schedule, progress = self.schedule, self.progress
        parts = self.stage.accumulate
        numbers = training_numbers(
            progress.step, schedule.steps, schedule.batch, self.world.rank, self.world.size, parts
        )
        stream = self._batches(numbers)
        self._started_at = self._saved_at = time.monotonic()
        bar = tqdm(total=schedule.steps, initial=progress.step, unit="step", disable=not self.world.is_main)
        self.network.train()
        with Interrupt() as interrupt, bar:
            self._after_step()  # the run may have ended between a step and its validation
            while progress.step < schedule.steps and not self._patience_spent():
                step = progress.step
                rates = set_learning_rates(self.optimizers, self.stage.optimizers, step, schedule.steps)
                seed_step(self.options.seed, step, self.world.rank)
                losses = self._step([next(stream) for _ in range(parts)])
                progress.step += 1
                if self.ema is not None:
                    self.ema.update(progress.step)
                self._record(losses, rates, bar)
                if self.world.any(interrupt.requested):
                    self._save_last()
                    log.info("interrupted after step %d; continue with --resume", progress.step)
                    return False
                self._after_step()
                overdue = time.monotonic() - self._saved_at > self.stage.save_minutes * 60
                if overdue and not progress.on_record:
                    self._save_last()
        if self.kept is not None:
            log.info("encoder: %s", self.kept.file.in_words())
        if progress.step < schedule.steps:
            log.info("no better validation for %d epochs: stopped", self.stage.patience)
        elif self.world.is_main:  # nothing continues from its end
            self._write(LAST)
            (self.folder.path / PREVIOUS).unlink(missing_ok=True)
        self._write_metrics(finished=True)
        return True

    def _batches(self, numbers: Iterator[list[int]]) -> Iterator[Any]:
        """Yield the batches of the numbers: from loader processes, or over the kept features of fixed views."""
        if self.kept is None:
            return batches(self.dataset, numbers, self.options.workers, self.world.device)
        return self.kept.batches(numbers)

    def _step(self, parts: list) -> dict[str, Tensor]:
        """Do one optimiser step over the parts of a local batch; return the mean of each loss over the parts."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        means: dict[str, Tensor] = {}
        for i, batch in enumerate(parts):
            with self._gradients_summed(last=i == len(parts) - 1):
                with self.prepared.autocast():
                    losses = self.prepared.learner(batch).losses
                (sum(losses.values()) / len(parts)).backward()
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / len(parts)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return means

    def _gradients_summed(self, last: bool) -> AbstractContextManager[None]:
        """Return the context of a part: processes sum their gradients in the last part of a batch only."""
        learner = self.prepared.learner
        return learner.no_sync() if isinstance(learner, DistributedDataParallel) and not last else nullcontext()

    def _record(self, losses: dict[str, Tensor], rates: dict[str, float], bar: tqdm) -> None:
        progress, names = self.progress, list(losses)
        values = self.world.sum(torch.stack([losses[n].float() for n in names])).cpu().double() / self.world.size
        record = dict(zip(names, values.tolist(), strict=True))
        record["total"] = sum(record.values())
        if not math.isfinite(record["total"]):
            raise UserError(f"step {progress.step}: the loss is not finite ({record}); {NOT_FINITE}")
        for name, value in record.items():
            progress.totals[name] = progress.totals.get(name, 0.0) + value
        bar.update()
        bar.set_postfix(loss=f"{record['total']:.3f}", epoch=self._epoch_text(), refresh=False)
        if progress.step % self.stage.log_steps == 0 or progress.step == 1:
            self.folder.scalars("loss", record, progress.step)
            self.folder.scalars("lr", rates, progress.step)

    def _epoch_text(self) -> str:
        done = self.progress.step / self.schedule.steps_per_epoch
        return f"{done:.1f}/{self.schedule.epochs}"

    def _after_step(self) -> None:
        """At the end of an epoch, or in its middle if that is validated, add a record unless there is one."""
        progress, length = self.progress, self.schedule.steps_per_epoch
        if progress.on_record:
            return
        epochs, steps = divmod(progress.step, length)
        if steps == 0:
            losses = {n: total / length for n, total in progress.totals.items()}
            log.info("epoch %d: loss %.4f", epochs, losses["total"])
            self._add({"epoch": epochs, "step": progress.step, "losses": losses}, self._is_due(epochs))
        elif self.stage.validate_midway and epochs > 0 and steps == length // 2 and self._is_due(epochs + 1):
            self._add({"epoch": epochs + 0.5, "step": progress.step}, True)

    def _is_due(self, epoch: int) -> bool:
        """Return whether this epoch, counted from 1, is validated: every ``validate_every``-th is, and the last."""
        return self.validate is not None and (epoch % self.stage.validate_every == 0 or epoch == self.schedule.epochs)

    def _add(self, record: dict[str, Any], due: bool) -> None:
        """Validate if it is due, add the record to the history, and write the best and the last checkpoint."""
        progress = self.progress
        better = self.validate is None  # without validations the newest counts as the best
        if due and self.validate is not None:
            self._save_last()  # a validation may take long, and the run may end in it
            with self._ema_applied():
                score, record["validation"] = self.validate(self.prepared, progress.step)
            if better := score > progress.best:
                progress.best, progress.best_epoch = score, record["epoch"]
            log.info("epoch %g: validation %.2f (best %.2f)", record["epoch"], score, progress.best)
        progress.history.append(record)
        if "losses" in record:
            progress.totals = {}
        if better:
            with self._ema_applied():
                self._save_best()
        self._save_last()
        self._write_metrics(finished=False)

    def _ema_applied(self) -> AbstractContextManager[None]:
        """Return the context in which the network holds its EMA, if one is kept."""
        return nullcontext() if self.ema is None else self.ema.applied()

    def _write_metrics(self, finished: bool) -> None:
        progress = self.progress
        best = None if math.isinf(progress.best) else {"score": progress.best, "epoch": progress.best_epoch}
        content = {"finished": finished, "best": best, "minutes": progress.minutes, "epochs": progress.history}
        self.folder.write_json(METRICS, content)

    def _patience_spent(self) -> bool:
        progress, patience = self.progress, self.stage.patience
        if not patience or not progress.best_epoch or progress.step % self.schedule.steps_per_epoch:
            return False
        return progress.step // self.schedule.steps_per_epoch - progress.best_epoch >= patience

    def _save_best(self) -> None:
        if self._counts_minutes():
            self._write(BEST)

    def _save_last(self) -> None:
        if not self._counts_minutes():
            return
        training: dict[str, Any] = {"optimizers": {n: o.state_dict() for n, o in self.optimizers.items()}}
        if self.ema is not None:
            training[checkpoint.EMA] = self.ema.state()
        self._write(LAST, training, self.folder.path / PREVIOUS)

    def _write(self, name: str, training: dict[str, Any] | None = None, previous: Path | None = None) -> None:
        """Write a checkpoint of this moment, with what ``training`` adds; ``previous`` then holds the old file."""
        weights = self.network.state_dict()
        broken = next((n for n, w in weights.items() if w.is_floating_point() and not w.isfinite().all()), None)
        if broken is not None:  # the loss was still finite, its gradients were not
            raise UserError(f"step {self.progress.step}: {broken} is not finite; {NOT_FINITE}")
        position = {"progress": asdict(self.progress), checkpoint.SCHEDULE: asdict(self.schedule)}
        content = {**self.options.state, "weights": weights, **position, **(training or {})}
        checkpoint.save(self.folder.path / name, content, previous)

    def _counts_minutes(self) -> bool:
        """Add the time since the last checkpoint to the run's; return whether this process writes a new one."""
        now = time.monotonic()
        self.progress.minutes += (now - self._started_at) / 60
        self._started_at = self._saved_at = now
        return self.world.is_main


# --- Ctrl-C and SIGTERM ----------------------------------------------------------------------------------------------


HANG_UP = getattr(signal, "SIGHUP", signal.SIGTERM)  # of a terminal that closes; Windows has none


class Interrupt:
    """A context in which the first signal sets ``requested``; the earlier signal handlers are restored at its end."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in {signal.SIGINT, signal.SIGTERM, HANG_UP}:
            if number != HANG_UP or signal.getsignal(number) != signal.SIG_IGN:  # nohup lets a run outlive its terminal
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
