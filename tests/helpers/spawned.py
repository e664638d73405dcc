"""Scripts of the project in processes of their own that need no second to start: forked where all is imported.

They are real processes: with an exit code, signals of their own and nothing shared with the tests. They differ from the
scripts that a user types in the interpreter's start alone; ``tests/cli`` has runs of the shell scripts for that.
"""

import contextlib
import importlib
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from multiprocessing import forkserver
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from tests.helpers import narrow  # noqa: F401  # an encoder that configs of tests name
from tests.helpers.paths import REPOSITORY
from util import cli

PRELOAD = ["tests.helpers.preloaded"]
TIMEOUT = 300  # seconds; a machine may be busy

allowed = True  # tests/conftest.py sets it for each test: whether the test has the mark ``process``
forks = multiprocessing.get_context("forkserver")
forks.set_forkserver_preload(PRELOAD)


def ensure_running() -> None:
    """Start the process that is forked, if it is not there; Python before 3.13 does not tell it where modules are."""
    assert allowed, "a test that starts a process needs @pytest.mark.process"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), before)))
    try:
        forkserver.ensure_running()
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before


@dataclass
class Spawned:
    """A running script. ``code`` and the texts wait for its end."""

    process: ForkServerProcess
    folder: tempfile.TemporaryDirectory = field(repr=False)

    def signal(self, number: int) -> None:
        """Send a signal to it alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.process.pid, number)

    @property
    def code(self) -> int:
        """Its exit code; that of ``subprocess``, negative for a signal."""
        self.process.join(TIMEOUT)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still running after {TIMEOUT} s: {self.stderr[-2000:]}")
        return self.process.exitcode

    @property
    def stdout(self) -> str:
        """Its standard output so far."""
        return self._text("stdout")

    @property
    def stderr(self) -> str:
        """Its standard error so far."""
        return self._text("stderr")

    def _text(self, name: str) -> str:
        path = Path(self.folder.name, name)
        return path.read_text() if path.exists() else ""  # it may not have begun


def start(*words: object, before: Callable[[], None] | None = None, **environment: object) -> Spawned:
    """Start a script of the repository with arguments; ``before`` is called in its process first."""
    folder = tempfile.TemporaryDirectory(prefix="spawned_")
    settings = {name: str(value) for name, value in environment.items()}
    process = forks.Process(target=_run, args=([str(w) for w in words], folder.name, settings, before))
    ensure_running()
    process.start()
    return Spawned(process, folder)


def run(*words: object, check: int = 0, **options: object) -> Spawned:
    """Run a script to its end; it must end with this code."""
    spawned = start(*words, **options)
    assert spawned.code == check, (spawned.code, spawned.stderr[-2000:])
    return spawned


def start_ranks(
    count: int, *words: object, ranks: Iterable[int] = (), own: Sequence[Sequence[str]] = ((), ()), **options: object
) -> list[Spawned]:
    """Start a script as so many processes of one run, or ``ranks`` of them: ``torchrun`` without its watch.

    ``own``: words of each process.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    place = {"WORLD_SIZE": count, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return [start(*words, *own[r], **place, RANK=r, LOCAL_RANK=r, **options) for r in ranks or range(count)]


def wait_for(condition: Callable[[], bool], *spawned: Spawned) -> None:
    """Wait until something is so; fails if one of the scripts ends before."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert all(s.process.is_alive() for s in spawned), [s.stderr[-2000:] for s in spawned]
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _become(words: list[str]) -> None:
    """Be ``python`` with words that name a script, or a module of the launcher after ``-m``."""
    sys.argv = words
    if words[0] != "-m":
        runpy.run_path(words[0], run_name="__main__")
        return
    sys.argv = words[1:]
    cli.heed_stops()
    cli.main(importlib.import_module(words[1]).main)


def _run(words: list[str], folder: str, environment: dict[str, str], before: Callable[[], None] | None) -> None:
    """Become the script: its streams, its words, its environment."""
    assert {*PRELOAD} <= sys.modules.keys(), f"an import of {PRELOAD} fails, of which multiprocessing says nothing"
    os.setsid()
    multiprocessing.set_start_method(None, force=True)  # a script's own processes start as they do for a user
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(Path(folder, name), os.O_WRONLY | os.O_CREAT), number)
    sys.stdout, sys.stderr = (os.fdopen(n, "w", buffering=1, closefd=False) for n in (1, 2))
    os.environ.update(environment)
    os.chdir(REPOSITORY)
    if before is not None:
        before()
    _become(words)
