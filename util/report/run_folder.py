"""The folder of one run: merged config, environment, log, JSON files, and curves by the writers of ``run.loggers``."""

import importlib.util
import json
import logging
import os
import platform
import re
import shutil
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tensorboardX import summary
from tensorboardX.proto import event_pb2
from tensorboardX.record_writer import masked_crc32c

from util.errors import UserError
from util.files import REPOSITORY, TEMPORARY, lock, write_atomically
from util.progress import ProgressBar

log = logging.getLogger("symnet")
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "matplotlib", "tensorboardX", "gensim")
EVENTS = "events.out.tfevents."  # beginning of the names of TensorBoard's files
EVENTS_VERSION = "brain.Event:2"
UNKNOWN = "unknown"  # commit or version
LOCK, LOG, ENVIRONMENT = ".lock", "log.txt", "environment.json"


class RunFolder:
    """Writer of a run's files; only the process that ``writes`` does, in others all methods do nothing.

    The folder is created if missing; with ``fresh`` its content is deleted first. Busy: another process is writing to
    it. OSError: it cannot be made or written.
    """

    def __init__(self, path: Path, writes: bool = True, fresh: bool = False):
        self.path, self.writes = path, writes
        self.resumed_at: int | None = None  # step from which existing curves are replaced
        self.loggers: list[str] = []  # the writers of curves that work
        self._config: dict[str, Any] = {}
        self._writers: dict[str, Any] = {}
        log.setLevel(logging.INFO if writes else logging.ERROR)
        if not any(isinstance(handler, _AboveBars) for handler in log.handlers):
            log.addHandler(_AboveBars())
        if not writes:
            return
        path.mkdir(parents=True, exist_ok=True)
        self._lock = lock(path / LOCK, f"{path}: another run is writing here; wait for its end, or set run.folder")
        for entry in list(path.iterdir() if fresh else path.glob(f".*{TEMPORARY}*")):  # of a run that was killed
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            elif entry.name != LOCK:
                entry.unlink()
        self._handler = logging.FileHandler(path / LOG, encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(self._handler)

    def describe(self, config: dict[str, Any], **facts: Any) -> None:
        """Write the merged config and the environment: commit, versions, machine, command, and ``facts``.

        The settings and the facts are in the log too, but not on the screen.
        """
        if self.writes:
            self._config, known = config, environment() | facts
            self.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
            self.write_json(ENVIRONMENT, known)
            both = yaml.safe_dump({"settings": config, "environment": known}, sort_keys=False)
            self._handler.handle(log.makeRecord(log.name, logging.INFO, "", 0, "%s", (both,), None))

    def scalars(self, section: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves ``section/<name>``."""
        for writer in self._open_writers():
            writer.scalars({f"{section}/{name}": value for name, value in values.items()}, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8 to the curves."""
        for writer in self._open_writers():
            writer.image(name, picture, step)

    def _open_writers(self) -> list[Any]:
        """Return the writers of curves that work; none where nothing is written."""
        for name in [*self.loggers] if self.writes else ():
            if name not in self._writers:
                self._writers[name] = WRITERS[name](self.path, self._config, self.resumed_at)
            if not self._writers[name].works:
                log.info("curves can no longer be written (is the disk full?); the run continues without them")
                self.loggers.remove(name)
                del self._writers[name]
        return [*self._writers.values()]

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; errors as ``write_atomically``."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file; errors as ``write_atomically``."""
        if self.writes:
            write_atomically(self.path / name, text)

    def close(self) -> None:
        """Flush the curves, close the log file and release the lock."""
        for writer in self._writers.values():
            writer.close()
        if self.writes:
            log.removeHandler(self._handler)
            self._handler.close()
            self._lock.close()


def environment() -> dict[str, Any]:
    """Return commit, package versions, machine and command line of this process, for result files."""
    versions = {name: found.version for name in PACKAGES for found in metadata.distributions(name=name)}
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
        "python": platform.python_version(),
        "packages": {name: versions.get(name, UNKNOWN) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(sys.argv),
    }


def changed_since_commit(commit: str, folders: Sequence[str]) -> list[str]:
    """Return the files in folders of the repository that differ from a commit; none if git does not know it."""
    if not re.fullmatch("[0-9a-f]{7,64}", commit):
        return []
    names = _git("diff", "--name-only", commit, "--", *folders)
    return [] if names == UNKNOWN else names.splitlines()


def _git(*arguments: str) -> str:
    try:
        command = ["git", "-C", str(REPOSITORY), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


class _AboveBars(logging.Handler):
    """Prints log lines above progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        ProgressBar.write(self.format(record))


class TensorBoard:
    """Writes events for TensorBoard below a run's folder; replaces existing ones from the step ``resumed_at`` on.

    An event is in its file when a call returns, so that no checkpoint holds a step that the curves lack.
    """

    def __init__(self, folder: Path, config: dict[str, Any], resumed_at: int | None):
        place = folder / "tensorboard"
        place.mkdir(parents=True, exist_ok=True)
        self.works = True  # until the file can no longer be written, as on a full disk
        self._file = (place / _name_of_next_events(place)).open("wb", buffering=0)
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
        sums = [struct.pack("<I", masked_crc32c(part)) for part in (length, content)]
        try:
            self._file.write(length + sums[0] + content + sums[1])
        except OSError:
            self.works = False


def _name_of_next_events(folder: Path) -> str:
    """Return the name of a new file of events, which TensorBoard reads after all that are in the folder.

    It reads files in the order of their names, which begin with a time; the clock may have been set back since.
    """
    times = [file.name.removeprefix(EVENTS).split(".")[0] for file in folder.glob(f"{EVENTS}*")]
    newest = max((int(each) for each in times if each.isdecimal()), default=0)
    return f"{EVENTS}{max(int(time.time()), newest + 1):010d}.{socket.gethostname()}"


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
