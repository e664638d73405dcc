"""The curves of a training, as TensorBoard reads them."""

import logging
import socket
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

log = logging.getLogger("symnet")
EVENTS = "events.out.tfevents."  # beginning of the names of TensorBoard's files
EVENTS_VERSION = "brain.Event:2"


class Curves:
    """The curves of a run in its folder (None: they are not written); the file is opened at the first point."""

    def __init__(self, folder: Path | None = None):
        self.folder = folder
        self.resumed_at: int | None = None  # step from which existing curves are replaced
        self._writer: TensorBoard | None = None

    def scalars(self, section: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves ``section/<name>``."""
        if writer := self._open_writer():
            writer.scalars({f"{section}/{name}": value for name, value in values.items()}, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8 to the curves."""
        if writer := self._open_writer():
            writer.image(name, picture, step)

    def _open_writer(self) -> "TensorBoard | None":
        """Return the writer while it works."""
        if self.folder is None:
            return None
        if self._writer is None:
            self._writer = TensorBoard(self.folder, self.resumed_at)
        if not self._writer.works:
            log.info("curves can no longer be written (is the disk full?); the run continues without them")
            self.folder = None
            return None
        return self._writer

    def close(self) -> None:
        """Flush the curves."""
        if self._writer is not None:
            self._writer.close()


class TensorBoard:
    """Writes events for TensorBoard below a run's folder; replaces existing ones from the step ``resumed_at`` on.

    An event is in its file when a call returns, so that no checkpoint holds a step that the curves lack.
    """

    def __init__(self, folder: Path, resumed_at: int | None):
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
