"""Writers of a training's curves and pictures, by their names in ``run.loggers``."""

import importlib.util
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import SummaryWriter

from util.errors import UserError


class TensorBoard:
    """Writes events for TensorBoard below a run's folder.

    Args:
        folder: of the run.
        config: the merged config.
        resumed_at: the step from which existing curves are replaced, None for a new run.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resumed_at: int | None):
        self._writer = SummaryWriter(str(folder / "tensorboard"), purge_step=resumed_at)

    @property
    def works(self) -> bool:
        """Whether it can write; its thread ends on a full disk."""
        return self._writer.file_writer.event_writer._worker.is_alive()

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add a point to each of some curves."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8."""
        self._writer.add_image(name, picture, step, dataformats="HWC")

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()


class WeightsAndBiases:
    """Sends curves to Weights & Biases, by its variables in the environment; a resumed training continues its run."""

    works = True

    def __init__(self, folder: Path, config: dict[str, Any], resumed_at: int | None):
        import wandb

        known = folder / "wandb_id.txt"
        if resumed_at is None or not known.exists():
            known.write_text(uuid.uuid4().hex[:8])
        name = "/".join(folder.parts[-2:])
        self._wandb, own = wandb, known.read_text()
        self._run = wandb.init(dir=str(folder), config=config, name=name, id=own, resume="allow")

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add a point to each of some curves."""
        self._run.log(values, step=step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8."""
        self._run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


WRITERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def check_writers(names: Sequence[str]) -> None:
    """Refuse (UserError) a writer whose package is not installed."""
    if "wandb" in names and importlib.util.find_spec("wandb") is None:
        raise UserError("run.loggers: wandb is not installed; pip install wandb, or leave it out")
