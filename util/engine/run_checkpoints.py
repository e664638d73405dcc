"""The checkpoints of one training: when each is written, with what, and which of them share a file."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from model.contract import Trainable
from util.engine import checkpoint
from util.engine.folders import BEST, LAST, PREVIOUS
from util.engine.frozen_files import FrozenFiles, frozen_names
from util.engine.resume import ALLOW
from util.engine.step_schedule import Progress, StepSchedule
from util.errors import UserError
from util.files import link_over

NOT_FINITE = f"lower the learning rate, then start from the last checkpoint with --resume {ALLOW}"


class RunCheckpoints:
    """Writes the best checkpoint, the last and the one before; frozen parts of the network lie beside them once.

    Args:
        network: whose weights are written.
        entries: what every checkpoint holds beside weights, progress and schedule.
        passed_on: whether the best weights go on to another stage, which freezes them: all of them lie beside then.
        shared: folder of checkpoints whose frozen parts this training may share.
    """

    def __init__(
        self,
        folder: Path,
        network: Trainable,
        schedule: StepSchedule,
        entries: dict[str, Any],
        passed_on: bool = False,
        shared: Path | None = None,
    ):
        self.folder, self.network, self.schedule, self.entries = folder, network, schedule, entries
        self.files, self.frozen, self.passed_on = FrozenFiles(folder, shared), frozen_names(network), passed_on

    def save_best(self, progress: Progress) -> None:
        """Write the best checkpoint, which no training continues from.

        Raises:
            UserError: weights are not finite, or the disk is full or the folder cannot be written.
        """
        weights = self._weights(progress)
        beside = weights if self.passed_on else self.frozen
        self._save(BEST, self._content(progress, weights, beside))

    def save_last(self, progress: Progress, training: dict[str, Any]) -> None:
        """Write the last checkpoint, with what the training needs to continue; the one before keeps the old file.

        Raises:
            UserError: as ``save_best``.
        """
        content = self._content(progress, self._weights(progress), self.frozen)
        self._save(LAST, content | training, self.folder / PREVIOUS)

    def finish(self, progress: Progress, averaged: bool) -> None:
        """Leave the checkpoints of a training at its end: no state of optimisers, and equal files once on the disk.

        A training that ended before its last step, by its patience, keeps the state.

        Args:
            averaged: whether the best checkpoint holds averaged weights, which are not the last ones.

        Raises:
            UserError: as ``save_best``.
        """
        best, last, previous = (self.folder / name for name in (BEST, LAST, PREVIOUS))
        ended = progress.step == self.schedule.steps
        try:
            if ended and not averaged and _is_at(best, progress.step):
                link_over(best, last)
            elif ended:
                self._save(LAST, self._content(progress, self._weights(progress), self.frozen))
            if _is_at(last, progress.step):
                link_over(last, previous)
        except OSError as error:
            raise UserError(f"{last}: could not be written ({error.strerror}); free some space") from None
        self.files.remove_unused()

    def _save(self, name: str, content: dict[str, Any], previous: Path | None = None) -> None:
        checkpoint.save(self.folder / name, content, previous)
        if self.files.changed:
            self.files.remove_unused()  # such as the parts of the best one before

    def _weights(self, progress: Progress) -> dict[str, Tensor]:
        weights = self.network.state_dict()
        broken = next((n for n, w in weights.items() if w.is_floating_point() and not w.isfinite().all()), None)
        if broken is not None:  # the loss was still finite, its gradients were not
            raise UserError(f"step {progress.step}: {broken} is not finite; {NOT_FINITE}")
        return weights

    def _content(self, progress: Progress, weights: dict[str, Tensor], beside: Collection[str]) -> dict[str, Any]:
        return {
            **self.entries,
            **self.files.put(weights, beside),
            "progress": asdict(progress),
            checkpoint.SCHEDULE: asdict(self.schedule),
        }


def _is_at(path: Path, step: int) -> bool:
    """Return whether a checkpoint can be read and is of this step."""
    try:
        return checkpoint.read(path)["progress"]["step"] == step
    except (UserError, KeyError):
        return False
