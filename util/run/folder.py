"""The folder of a stage or a test: its writer (config, environment, log and JSON files), and a stage's state."""

import functools
import json
import logging
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import yaml

from util.config.compose import CHOICE
from util.config.place import CONFIG, ENVIRONMENT, imports_beside
from util.config.read import for_run_folder
from util.files.errors import UserError, log
from util.files.progress import ProgressBar
from util.files.project import REPOSITORY
from util.files.reading import kept_json
from util.files.writing import TEMPORARY, lock, write_atomically
from util.files.yaml_text import Dumper
from util.weights import checkpoint
from util.weights.checkpoint import Checkpoint

PACKAGES = ("torch", "torchvision", "numpy", "opencv-python-headless", "matplotlib", "tensorboardX", "gensim")
BEST, LAST, PREVIOUS = "best.pth", "last.pth", "previous.pth"  # the latter is used when the last one cannot be read
UNKNOWN = "unknown"  # commit or version
METRICS = "metrics.json"  # of a training
OPTIONS, RUN = "options", "run"  # keys of a training in ENVIRONMENT: its overrides, and the name of its run


@dataclass(frozen=True)
class StageFolder:
    """The folder of a stage's training and its state."""

    path: Path

    @property
    def begun(self) -> bool:
        """Whether it holds a training that can be resumed."""
        return (self.path / LAST).exists() or (self.path / PREVIOUS).exists()

    @property
    def finished(self) -> bool:
        """Whether it holds a completed training."""
        return bool(kept_json(self.path / METRICS).get("finished")) and (self.path / BEST).exists()

    @property
    def has_steps_left(self) -> bool:
        """Whether its training can go on: it is unfinished, or an observer ended it early."""
        return not self.finished or "ended_by" in kept_json(self.path / METRICS)

    @property
    def run(self) -> str | None:
        """The name of the run that trained it last; None: not known."""
        return kept_json(self.path / ENVIRONMENT).get(RUN)

    @property
    def options(self) -> list[str]:
        """The overrides that its training was begun, or last continued, with."""
        return kept_json(self.path / ENVIRONMENT).get(OPTIONS, [])

    def newest(self) -> Checkpoint:
        """Return the last checkpoint, else of the one before; UserError if neither can be read."""
        try:
            return checkpoint.read(self.path / LAST)
        except UserError as error:
            if not (self.path / PREVIOUS).exists():
                raise
            return replace(checkpoint.read(self.path / PREVIOUS), unread=str(error))

    @property
    def why_occupied(self) -> str:
        """Which run is here, and how to go on with it; '' if none is."""
        if not self.begun and not (self.path / BEST).exists():
            return ""
        resume = "continue it with --resume, " if self.begun else ""
        return f"{self.path}: holds a run already; {resume}start again with --overwrite, or set another run.name"


class RunFolder:
    """Writer of a run's files; only the process that ``writes`` does, in others all methods do nothing.

    Args:
        path: the folder, which is created if missing.
        writes: whether this process does.
        fresh: delete the folder's content first.

    Raises:
        OSError: it cannot be made or written.
    """

    def __init__(self, path: Path, writes: bool = True, fresh: bool = False):
        self.path = path
        self.writes = writes
        log.setLevel(logging.INFO if writes else logging.ERROR)
        if not any(isinstance(handler, _AboveBars) for handler in log.handlers):
            log.addHandler(_AboveBars())
        if not writes:
            return
        path.mkdir(parents=True, exist_ok=True)
        self._made = path.stat()
        _delete(list(path.iterdir() if fresh else path.glob(f".*{TEMPORARY}*")))  # the latter of a run that was killed
        self._handler = logging.FileHandler(path / "log.txt", encoding="utf-8")
        self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
        log.addHandler(self._handler)

    def describe(self, config: dict[str, Any], **facts: Any) -> None:
        """Write the merged config and the environment: commit, versions, machine, command, and ``facts``."""
        if self.writes:
            content = for_run_folder({**config, "imports": imports_beside(config["imports"], self.path)})
            self.write_text(CONFIG, yaml.dump(content, Dumper=Dumper, sort_keys=False))
            self.write_json(ENVIRONMENT, environment(config["imports"]) | facts)

    def write_json(self, name: str, content: Any) -> None:
        """Write a JSON file; raises as ``write_atomically`` does."""
        self.write_text(name, json.dumps(content, indent=2) + "\n")

    def write_text(self, name: str, text: str) -> None:
        """Write a text file; raises as ``write_atomically`` does."""
        if self.writes:
            write_atomically(self.path / name, text)

    def check_place(self) -> None:
        """Refuse (UserError) a folder that is not where it was made: the rest of a run would lie in another one."""
        if not (self.path.exists() and os.path.samestat(self._made, self.path.stat())):
            raise UserError(
                f"{self.path}: this folder was renamed or removed while a training writes into it",
                fix="give it its name again: it holds the last checkpoint, from which train.sh --resume continues",
            )

    def close(self) -> None:
        """Close the log file."""
        if self.writes:
            log.removeHandler(self._handler)
            self._handler.close()


def claim(folder: Path) -> TextIO:
    """Return the lock of a run's folder, in which no other training works while it is open; UserError if one does.

    The lock lies beside the folder, whose files a run may delete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    path = folder.with_name(f".{folder.name}.lock")
    return lock(path, f"{folder}: another command is using it; wait until it ends, or set another run.name")


def _delete(entries: list[Path]) -> None:
    """Delete entries of a run's folder with all that they hold."""
    for entry in entries:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def environment(imports: Sequence[str] = ()) -> dict[str, Any]:
    """Return commit, package versions, machine and command line of this process, for result files.

    ``imports``: files of others, each with the commit of its folder.
    """
    choice = [f"{name}={os.environ[name]}" for name in CHOICE if os.environ.get(name)]
    script, *words = sys.argv
    facts = {**_code_and_machine(), "command": " ".join([*choice, Path(script).name, *words])}
    if imports:
        facts["imports"] = {name: _git("rev-parse", "HEAD", folder=Path(name).parent) for name in imports}
    return facts


@functools.cache  # of the code that this process has loaded
def _code_and_machine() -> dict[str, Any]:
    changed = _git_here("status", "--porcelain")
    versions = {name: package.version for name in PACKAGES for package in metadata.distributions(name=name)}
    return {
        "commit": _commit(),
        "changed_files": 0 if changed == UNKNOWN else len(changed.splitlines()),
        "python": platform.python_version(),
        "packages": {name: versions.get(name, UNKNOWN) for name in PACKAGES},
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "processor": _processor(),
    }


def _processor() -> str:
    """Return the processor's name as Linux has it, elsewhere as Python does."""
    facts = Path("/proc/cpuinfo")
    named = re.search(r"^model name\s*: (.*)$", facts.read_text(), re.MULTILINE) if facts.is_file() else None
    return named[1] if named else platform.processor() or UNKNOWN


def _commit() -> str:
    """Return the commit of a clone, or the one that pip has installed from a repository."""
    for package in metadata.distributions(name="symnet"):
        if package.locate_file("symnet") == REPOSITORY:
            origin = json.loads(package.read_text("direct_url.json") or "{}")
            return origin.get("vcs_info", {}).get("commit_id", UNKNOWN)
    return _git_here("rev-parse", "HEAD")


def _git_here(*arguments: str) -> str:
    # Without it this is an installed package, perhaps in a folder of another repository
    return _git(*arguments, folder=REPOSITORY) if (REPOSITORY / ".git").exists() else UNKNOWN


def _git(*arguments: str, folder: Path) -> str:
    try:
        command = ["git", "-C", str(folder), *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return UNKNOWN


class _AboveBars(logging.Handler):
    """Prints log lines above progress bars instead of through them."""

    def emit(self, record: logging.LogRecord) -> None:
        ProgressBar.write(self.format(record))
