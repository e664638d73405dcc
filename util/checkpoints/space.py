"""The room on the disk that checkpoints take, and that there is."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from model.contract import Trainable
from util.config.settings import Config, StageSettings

MOMENTS = {"sgd": 1, "adamw": 2}  # numbers that an optimiser stores for each trained weight


def free_bytes(config: Config) -> int:
    """Return the bytes that are free on the disk of the run folders."""
    root = Path(config.run.folder).absolute()
    return shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free


def taken(folders: Iterable[Path]) -> int:
    """Return the bytes of the checkpoints in folders, each file once, whatever its names."""
    stats = (file.stat() for folder in folders for file in folder.glob("*.pth"))
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


class Stored(NamedTuple):
    """The bytes of a network in training: of its weights, of what optimisers and EMA keep beside them, of the EMA."""

    weights: int
    beside: int
    average: int = 0

    @classmethod
    def of(cls, network: Trainable, stage: StageSettings) -> Stored:
        """Return those of a stage's network."""
        learning = sum(p.nbytes for p in network.parameters() if p.requires_grad)
        numbers, average = max((MOMENTS[o.kind] for o in stage.optimizers.values()), default=0), stage.ema_decay > 0
        weights = sum(t.nbytes for t in network.state_dict().values())
        return cls(weights, (numbers + average) * learning, average * learning)

    @property
    def remain(self) -> int:
        """The bytes of a finished stage's checkpoints: best and last."""
        return 2 * self.weights + self.average

    @property
    def most(self) -> int:
        """The most that a stage's checkpoints take at a time: best, last, the one before, and a new one."""
        return 4 * self.weights + 3 * self.beside
