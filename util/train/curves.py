"""The curves of a training, by the writers that ``run.loggers`` names."""

import importlib.util
import logging
import socket
import struct
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from util.files.errors import UserError

log = logging.getLogger("symnet")
EVENTS = "events.out.tfevents."  # beginning of the names of TensorBoard's files
EVENTS_VERSION = "brain.Event:2"


class Curves:
    """The curves of a run in its folder; a writer is opened at the first point, and left out once it fails.

    Args:
        folder: of the run.
        loggers: names of ``WRITERS``; none where nothing is written.
        config: the merged config, which a service shows beside the curves.
    """

    def __init__(self, folder: Path = Path(), loggers: Sequence[str] = (), config: dict[str, Any] | None = None):
        self.folder = folder
        self.config = config or {}
        self.loggers = [*loggers]  # the writers that work
        self.resumed_at: int | None = None  # step from which existing curves are replaced
        self._writers: dict[str, Any] = {}

    def scalars(self, section: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves ``section/<name>``."""
        points = {f"{section}/{name}": value for name, value in values.items()}
        for writer in self._open_writers():
            writer.scalars(points, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8 to the curves."""
        for writer in self._open_writers():
            writer.image(name, picture, step)

    def _open_writers(self) -> list[Any]:
        """Return the writers that work."""
        for name in [*self.loggers]:
            if name not in self._writers:
                self._writers[name] = WRITERS[name](self.folder, self.config, self.resumed_at)
            if not self._writers[name].works:
                log.info("curves can no longer be written (is the disk full?); the run continues without them")
                self.loggers.remove(name)
                del self._writers[name]
        return [*self._writers.values()]

    def close(self) -> None:
        """Flush the curves."""
        for writer in self._writers.values():
            writer.close()


class TensorBoard:
    """Writes events for TensorBoard below a run's folder; replaces existing ones from the step ``resumed_at`` on.

    An event is in its file when a call returns, so that no checkpoint holds a step that the curves lack.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resumed_at: int | None):
        events = folder / "tensorboard"
        events.mkdir(parents=True, exist_ok=True)
        self.works = True  # until the file can no longer be written, as on a full disk
        self._file = (events / _name_of_next_events(events)).open("wb", buffering=0)
        self._write(event_pb2.Event(file_version=EVENTS_VERSION))
        if resumed_at is not None:
            start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
            self._write(event_pb2.Event(session_log=start, step=resumed_at))

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add a point to each of some curves."""
        for name, value in values.items():
            self._write(event_pb2.Event(summary=summary.scalar(name, value), step=step))

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8."""
        self._write(event_pb2.Event(summary=summary.image(name, picture, dataformats="HWC"), step=step))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Any) -> None:
        """Append an event as a record: its length, its bytes, and a checksum of each."""
        event.wall_time = time.time()
        content = event.SerializeToString()
        length = struct.pack("<Q", len(content))
        length_sum, content_sum = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
        try:
            self._file.write(length + length_sum + content + content_sum)
        except OSError:
            self.works = False


def _name_of_next_events(folder: Path) -> str:
    """Return the name of a new file of events, which TensorBoard reads after all that are in the folder.

    It reads files in the order of their names, which begin with a time; the clock may have been set back since.
    """
    newest = 0
    for file in folder.glob(f"{EVENTS}*"):
        begun = file.name.removeprefix(EVENTS).split(".")[0]
        if begun.isdecimal():
            newest = max(newest, int(begun))
    begins = max(int(time.time()), newest + 1)
    return f"{EVENTS}{begins:010d}.{socket.gethostname()}"


class WeightsAndBiases:
    """Sends curves to Weights & Biases, by its variables in the environment; a resumed training continues its run."""

    works = True

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


WRITERS = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases}


def check_writers(names: Sequence[str]) -> None:
    """Refuse (UserError) a writer whose package is not installed."""
    if "wandb" in names and importlib.util.find_spec("wandb") is None:
        raise UserError("run.loggers: wandb is not installed; pip install wandb, or leave it out")
