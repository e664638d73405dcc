"""The folder of one run: merged config, environment, log, JSON files and TensorBoard curves."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tensorboardX import SummaryWriter
from tqdm import tqdm

from util.errors import UserError
from util.files import REPOSITORY, TEMPORARY, lock, write_atomically

log = logging.getLogger("symnet")
PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "matplotlib", "tensorboardX", "gensim")
LOCK, LOG = ".lock", "log.txt"


class RunFolder:
    """Writer of a run's files; only the main process writes, in other processes all methods do nothing.

    Args:
        path: the folder; created if missing.
        writes: whether this is the process that writes.
        fresh: whether the content of the folder is deleted first.

    Raises:
        UserError: the folder cannot be made or written, or another process is writing to it.
    """

    def __init__(self, path: Path, writes: bool = True, fresh: bool = False):
        self.path, self.writes = path, writes
        self.resumed_at: int | None = None  # step from which existing curves are replaced
        self._curves: SummaryWriter | None = None
        self._curves_lost = False
        _log_to_screen(writes)
        if not writes:
            return
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock(path / LOCK, f"{path}: another run is writing here; wait for its end, or set run.folder")
            if fresh:
                _empty(path)
            for leftover in path.glob(f".*{TEMPORARY}*"):  # of a run that was killed while it wrote
                leftover.unlink(missing_ok=True)
            probe = path / ".probe"
            probe.write_text("")
            probe.unlink()
            handler = logging.FileHandler(path / LOG, encoding="utf-8")
        except OSError as error:
            raise UserError(
                f"{path}: this output folder cannot be written ({error.strerror}); set run.folder"
            ) from None
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(handler)
        self._handler = handler

    @property
    def curves(self) -> SummaryWriter:
        """The TensorBoard writer, opened at the first access."""
        if self._curves is None:
            self._curves = SummaryWriter(str(self.path / "tensorboard"), purge_step=self.resumed_at)
        return self._curves

    def describe(self, config: dict[str, Any], **facts: Any) -> None:
        """Write the merged config and the environment: commit, versions, machine, command, and ``facts``.

        The settings and the facts are in the log too, but not on the screen.
        """
        if self.writes:
            known = environment() | facts
            self.write_text("config.yaml", yaml.safe_dump(config, sort_keys=False))
            self.write_json("environment.json", known)
            told = yaml.safe_dump({"settings": config, "environment": known}, sort_keys=False)
            self._handler.handle(log.makeRecord(log.name, logging.INFO, "", 0, "%s", (told,), None))

    def _curves_alive(self) -> bool:
        """Return whether curves can still be written: the writer's thread dies when the disk is full."""
        events = getattr(self.curves.file_writer, "event_writer", None)
        worker = getattr(events, "_worker", None)
        if worker is None or worker.is_alive():
            return True
        if not self._curves_lost:
            log.info("curves can no longer be written (is the disk full?); the run continues without them")
            self._curves_lost = True
        return False

    def scalars(self, section: str, values: dict[str, float], step: int) -> None:
        """Add a point to each of the curves ``section/<name>``."""
        if self.writes and self._curves_alive():
            for name, value in values.items():
                self.curves.add_scalar(f"{section}/{name}", value, step)

    def image(self, name: str, picture: np.ndarray, step: int) -> None:
        """Add a picture (H, W, 3) uint8 to the curves."""
        if self.writes and self._curves_alive():
            self.curves.add_image(name, picture, step, dataformats="HWC")

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file, atomically."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file, atomically.

        Raises:
            WriteError: the disk is full or the folder cannot be written.
        """
        if self.writes:
            write_atomically(self.path / name, text)

    def close(self) -> None:
        """Flush the curves, close the log file and release the lock."""
        if self._curves is not None and not self._curves_lost:
            self._curves.close()
        if self.writes:
            log.removeHandler(self._handler)
            self._handler.close()
            self._lock.close()


def _empty(path: Path) -> None:
    """Delete the content of a folder except its lock."""
    for entry in path.iterdir():
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()


def environment() -> dict[str, Any]:
    """Return commit, package versions, machine and command line of this process, for result files."""
    return {
        "commit": _git("rev-parse", "HEAD"),
        "changed_files": len(_git("status", "--porcelain").splitlines()),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "command": " ".join(sys.argv),
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _git(*arguments: str) -> str:
    try:
        run = subprocess.run(["git", "-C", str(REPOSITORY), *arguments], capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return "unknown"
    return run.stdout.strip() if run.returncode == 0 else "unknown"


class _TqdmHandler(logging.Handler):
    """Prints log lines above progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record))


def _log_to_screen(writes: bool) -> None:
    log.setLevel(logging.INFO if writes else logging.ERROR)
    if not any(isinstance(h, _TqdmHandler) for h in log.handlers):
        log.addHandler(_TqdmHandler())
