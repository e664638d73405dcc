"""The training engine of both stages: one loop over numbered batches, resumable to the same result."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import Dataset
from tqdm import tqdm

from model.contract import Trainable
from util.config.settings import StageSettings
from util.engine import checkpoint
from util.engine.device import autocast, seed_step
from util.engine.ema import EMA
from util.engine.interrupt import Interrupt
from util.engine.loading import batches, training_numbers
from util.engine.optimizers import build_optimizers, load_optimizers, set_learning_rates
from util.engine.processes import World
from util.engine.step_schedule import Progress, StepSchedule
from util.errors import UserError
from util.report.run_folder import RunFolder

log = logging.getLogger("symnet")
SECONDS_PER_MINUTE = 60
HALF = 0.5
LAST, BEST, METRICS = "last.pth", "best.pth", "metrics.json"
NOT_FINITE = "lower the learning rate, then start from the last checkpoint with --resume"
PREVIOUS = "previous.pth"  # the last checkpoint but one, for the day the last one cannot be read

# Returns (score that picks the best checkpoint, everything to record) for the network as it is.
Validate = Callable[[nn.Module, int], tuple[float, dict[str, Any]]]


def is_finished(folder: Path) -> bool:
    """Return whether a stage's folder holds a training that came to its end."""
    try:
        return bool(json.loads((folder / METRICS).read_text())["finished"]) and (folder / BEST).exists()
    except (OSError, ValueError, KeyError):
        return False


class Trainer:
    """Trains one network for one stage.

    Args:
        network: says what learns and returns its losses.
        dataset: item n is training example number n, augmented.
        images: how many examples make an epoch.
        validate: scores the network when the stage says so.
        folder: where checkpoints, records and curves go; written by the main process alone.
        state: what checkpoints hold beside weights and progress: stage, config, data fingerprint.
    """

    def __init__(
        self,
        network: Trainable,
        dataset: Dataset,
        images: int,
        stage: StageSettings,
        *,
        key: str,
        validate: Validate,
        folder: RunFolder,
        world: World,
        precision: str,
        seed: int,
        workers: int,
        state: dict[str, Any],
    ):
        self.network, self.dataset, self.stage = network, dataset, stage
        self.validate = validate if stage.validate_every else None
        self.folder, self.world, self.precision, self.seed, self.workers = folder, world, precision, seed, workers
        self.state = state
        self.schedule = StepSchedule.of(stage, images, world.size, key)
        groups = network.param_groups()
        if not groups:
            raise UserError("this model has nothing to train; test it as it is")
        self.optimizers = build_optimizers(groups, stage.optimizers)
        self.ema = EMA(network, stage.ema_decay) if stage.ema_decay else None
        self.progress = Progress()
        self._saved_at = self._started_at = time.monotonic()

    def resume(self, content: dict[str, Any]) -> None:
        """Continue from a checkpoint's content: weights, optimisers and position.

        Raises:
            UserError: it holds no training state, or belongs to a run of another length or batch.
        """
        if "progress" not in content:
            raise UserError(f"{self.folder.path / LAST}: holds weights only, training cannot continue from it")
        if content["plan"] != asdict(self.schedule):
            raise UserError(
                f"{self.folder.path / LAST}: was made with other epochs, batch, processes or list "
                f"({content['plan']}, now {asdict(self.schedule)}); continue with the same, or start again with --overwrite"
            )
        if content["data"] != self.state["data"]:
            raise UserError(
                f"{self.folder.path / LAST}: the training list has changed since; restore the data, "
                "or start again with --overwrite"
            )
        changed = checkpoint.changed_settings(content["config"], self.state["config"])
        if changed:
            log.info("settings changed since the checkpoint: %s", ", ".join(changed))
        checkpoint.load_weights(self.network, content["weights"], str(self.folder.path / LAST))
        try:
            load_optimizers(self.optimizers, content["optimizers"])
            if self.ema is not None:
                self.ema.load(content["average"])
        except (KeyError, ValueError) as error:
            raise UserError(
                f"{self.folder.path / LAST}: optimisers or average are of other parameters ({error}); undo the changed "
                "settings, or start again with --overwrite"
            ) from None
        self.progress = Progress(**content["progress"])
        self.folder.resumed_at = self.progress.step + 1
        log.info("resumed after step %d of %d", self.progress.step, self.schedule.steps)

    def fit(self) -> bool:
        """Train to the end; return whether it was reached (False: interrupted, with a checkpoint to resume from)."""
        schedule, progress = self.schedule, self.progress
        learner = self._distributed()
        parts = self.stage.accumulate
        numbers = training_numbers(
            progress.step, schedule.steps, schedule.batch, self.world.rank, self.world.size, parts
        )
        stream = batches(self.dataset, numbers, self.workers, self.world.device)
        self._started_at = self._saved_at = time.monotonic()
        bar = tqdm(total=schedule.steps, initial=progress.step, unit="step", disable=not self.world.is_main)
        self.network.train()
        with Interrupt() as interrupt, bar:
            self._after_step()  # the run may have ended between a step and its validation
            while progress.step < schedule.steps and not self._patience_spent():
                step = progress.step
                rates = set_learning_rates(self.optimizers, self.stage.optimizers, step, schedule.steps)
                seed_step(self.seed, step, self.world.rank)
                losses = self._step(learner, [next(stream) for _ in range(parts)])
                progress.step += 1
                if self.ema is not None:
                    self.ema.update(progress.step)
                self._record(losses, rates, bar)
                if self.world.any(interrupt.requested):
                    self._save(LAST)
                    log.info("interrupted after step %d; continue with --resume", progress.step)
                    return False
                self._after_step()
                overdue = time.monotonic() - self._saved_at > self.stage.save_minutes * SECONDS_PER_MINUTE
                if overdue and not progress.on_record:
                    self._save(LAST)
        if progress.step < schedule.steps:
            log.info("no better validation for %d epochs: stopped", self.stage.patience)
        self._write_metrics(finished=True)
        return True

    def _distributed(self) -> nn.Module:
        """Return what is called in training: the network itself, or its DistributedDataParallel wrapper."""
        if self.world.size == 1:
            return self.network
        if self.world.device.type == "cpu":
            return DistributedDataParallel(self.network)
        synced = nn.SyncBatchNorm.convert_sync_batchnorm(self.network)
        return DistributedDataParallel(synced, device_ids=[self.world.device])

    def _step(self, learner: nn.Module, parts: list) -> dict[str, torch.Tensor]:
        """Do one optimiser step over the parts of a local batch; return the mean of each loss over the parts."""
        for optimizer in self.optimizers.values():
            optimizer.zero_grad(set_to_none=True)
        means: dict[str, torch.Tensor] = {}
        for i, batch in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last or learner is self.network else learner.no_sync():
                with autocast(self.world.device, self.precision):
                    losses = learner(batch).losses
                (sum(losses.values()) / len(parts)).backward()
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / len(parts)
        for optimizer in self.optimizers.values():
            optimizer.step()
        return means

    def _record(self, losses: dict[str, torch.Tensor], rates: dict[str, float], bar: tqdm) -> None:
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
        """End the epoch, or validate in its middle, if it is time for that and no record tells of it yet."""
        progress, length = self.progress, self.schedule.steps_per_epoch
        if progress.on_record:
            return
        epochs, steps = divmod(progress.step, length)
        if steps == 0:
            losses = {n: total / length for n, total in progress.totals.items()}
            log.info("epoch %d: loss %.4f", epochs, losses["total"])
            self._add({"epoch": epochs, "step": progress.step, "losses": losses}, self._is_due(epochs))
        elif self.stage.validate_midway and epochs > 0 and steps == length // 2 and self._is_due(epochs + 1):
            self._add({"epoch": epochs + HALF, "step": progress.step}, True)

    def _is_due(self, epoch: int) -> bool:
        """Return whether this epoch, counted from 1, is validated: every so many are, and the last."""
        return self.validate is not None and (epoch % self.stage.validate_every == 0 or epoch == self.schedule.epochs)

    def _add(self, record: dict[str, Any], due: bool) -> None:
        """Validate if it is time, add the record to the history, and keep the best and the last checkpoint."""
        progress = self.progress
        better = self.validate is None  # the newest then counts as the best
        if due:
            self._save(LAST)  # a validation may take long; nothing is lost if the run ends in it
            with self._averaged():
                score, record["validation"] = self.validate(self.network, progress.step)
            if better := score > progress.best:
                progress.best, progress.best_epoch = score, record["epoch"]
            log.info("epoch %g: validation %.2f (best %.2f)", record["epoch"], score, progress.best)
        progress.history.append(record)
        if "losses" in record:
            progress.totals = {}
        if better:
            with self._averaged():
                self._save(BEST)
        self._save(LAST)
        self._write_metrics(finished=False)

    def _averaged(self) -> AbstractContextManager[None]:
        """Return the context in which the network holds what is to be scored: its average, if one is kept."""
        return nullcontext() if self.ema is None else self.ema.in_place()

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

    def _save(self, name: str) -> None:
        now = time.monotonic()
        self.progress.minutes += (now - self._started_at) / SECONDS_PER_MINUTE
        self._started_at = self._saved_at = now
        if not self.world.is_main:
            return
        weights = self.network.state_dict()
        broken = next((n for n, w in weights.items() if w.is_floating_point() and not w.isfinite().all()), None)
        if broken is not None:  # the loss was still finite, its gradients were not
            raise UserError(f"step {self.progress.step}: {broken} is not finite; {NOT_FINITE}")
        content = {**self.state, "weights": weights, "progress": asdict(self.progress)}
        previous = None
        if name == LAST:
            content["plan"] = asdict(self.schedule)
            content["optimizers"] = {n: o.state_dict() for n, o in self.optimizers.items()}
            if self.ema is not None:
                content["average"] = self.ema.state()
            previous = self.folder.path / PREVIOUS
        checkpoint.save(self.folder.path / name, content, previous)
