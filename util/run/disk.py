"""The room that checkpoints take on the disk of the run folders."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from model.contract import Trainable
from util.config.settings import Config, StageSettings
from util.files.errors import UserError
from util.loop.optimizer_kinds import OPTIMIZERS


class CheckpointBytes(NamedTuple):
    """The bytes of a stage's checkpoints."""

    final_bytes: int  # of a finished stage: best and last
    peak_bytes: int  # at a time: best, last, the one before, and a new one

    @classmethod
    def of(cls, network: Trainable, stage: StageSettings) -> CheckpointBytes:
        """Return the bytes of a stage's network, whose tensors may be without memory."""
        weights = sum(tensor.nbytes for tensor in network.stored_state().values())
        learning = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
        average = learning if stage.ema_decay > 0 else 0
        moments = learning * max(
            (OPTIMIZERS[optimizer.kind].moments for optimizer in stage.optimizers.values()), default=0
        )
        return cls(final_bytes=2 * weights + average, peak_bytes=4 * weights + 3 * (moments + average))


def free_on_disk(config: Config, folders: Iterable[Path]) -> int:
    """Return the bytes that are free on the disk of the run folders; the checkpoints in ``folders`` count as free."""
    root = Path(config.run.folder).absolute()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    free = shutil.disk_usage(existing).free
    for folder in folders:
        for file in folder.glob("*.pth"):
            with suppress(FileNotFoundError):  # another run saves there at this time, and is refused later
                free += file.stat().st_size
    return free


def room(config: Config, stages: Sequence[CheckpointBytes], folders: Iterable[Path]) -> str:
    """Return a sentence on the disk space that stages need, and have; UserError: it is too little.

    They replace the checkpoints in ``folders``.
    """
    free = free_on_disk(config, folders)
    kept = sum(stage.final_bytes for stage in stages)
    extra = max((stage.peak_bytes - stage.final_bytes for stage in stages), default=0)
    says = (
        f"checkpoints will take {kept / 1e9:.1f} GB, and {extra / 1e9:.1f} GB more while training; "
        f"{free / 1e9:.1f} GB are free"
    )
    if kept + extra > free:
        raise UserError(
            f"{config.run.folder}: the disk is too small: {says}",
            fix="free some space, or --set run.folder=<DIR> on another one",
        )
    return says
