"""The curves of a training, by the writers that ``run.loggers`` names."""

import importlib.util
import logging
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from util.files.errors import UserError

log = logging.getLogger("symnet")


class TensorBoard:
    """Writes events for TensorBoard below a run's folder.

    It writes at once, so that no checkpoint holds a step that the curves lack: tensorboardX's ``SummaryWriter`` writes
    in a thread, and once that has met a full disk, its tenth point waits for ever.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resumed_at: int | None):
        events = folder / "tensorboard"
        events.mkdir(parents=True, exist_ok=True)
        of_this_start = f".{len([*events.iterdir()]):04d}"  # two files of one second would have one name
        self._events = EventsWriter(str(events / "events"), of_this_start)
        if resumed_at is not None:
            self._write(Event(session_log=SessionLog(status=SessionLog.START), step=resumed_at))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add a point to each of some curves; OSError: it cannot be written."""
        for name, value in values.items():
            self._write(Event(summary=summary.scalar(name, value), step=step))
        self._events.flush()

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8; OSError: it cannot be written."""
        self._write(Event(summary=summary.image(name, picture, dataformats="HWC"), step=step))
        self._events.flush()

    def _write(self, event: Event) -> None:
        event.wall_time = time.time()
        self._events.write_event(event)

    def close(self) -> None:
        """Close the file."""
        self._events.close()


class WeightsAndBiases:
    """Sends curves to Weights & Biases, by its variables in the environment; a resumed training continues its run."""

    def __init__(self, folder: Path, config: dict[str, Any], resumed_at: int | None):
        import wandb

        id_file = folder / "wandb_id.txt"
        if resumed_at is None or not id_file.exists():
            id_file.write_text(uuid.uuid4().hex[:8])
        name = "/".join(folder.parts[-2:])
        self._wandb = wandb
        self._run = wandb.init(dir=str(folder), config=config, name=name, id=id_file.read_text(), resume="allow")

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add a point to each of some curves."""
        self._run.log(values, step=step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8."""
        self._run.log({name: self._wandb.Image(picture)}, step=step)

    def close(self) -> None:
        """Send what is left."""
        self._run.finish()


WRITERS: dict[str, Any] = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


class Curves:
    """The curves of a run in its folder; a writer whose file cannot be written is left out from then on.

    Args:
        folder: of the run.
        loggers: names of ``WRITERS``; none where nothing is written.
        config: the merged config, which a service shows beside the curves.
        resumed_at: the step from which existing curves are replaced.
    """

    def __init__(self, folder: Path, loggers: Sequence[str], config: dict[str, Any], resumed_at: int | None = None):
        self._writers = [WRITERS[name](folder, config, resumed_at) for name in loggers]

    def scalars(self, section: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves ``section/<name>``."""
        points = {f"{section}/{name}": value for name, value in values.items()}
        self._each("scalars", points, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8 to the curves."""
        self._each("image", name, picture, step)

    def close(self) -> None:
        """Write what is left."""
        self._each("close")

    def _each(self, method: str, *arguments: Any) -> None:
        for writer in [*self._writers]:
            try:
                getattr(writer, method)(*arguments)
            except OSError:
                log.info("curves can no longer be written (is the disk full?); the run continues without them")
                self._writers.remove(writer)


def check_writers(names: Sequence[str]) -> None:
    """Refuse (UserError) a writer whose package is not installed."""
    if "wandb" in names and importlib.util.find_spec("wandb") is None:
        raise UserError("run.loggers: wandb is not installed; pip install wandb, or leave it out")
