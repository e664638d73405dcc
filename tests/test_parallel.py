"""Work in several processes: Ctrl-C is the first process's own, and its end is theirs."""

import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from util.files.launcher import end_with_launcher
from util.files.parallel import FEW, end_with_parent, parallel_map, usable_cores

PATIENCE = 60  # seconds


def _ignores(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_processes_ignore_interrupts() -> None:
    states = set(parallel_map(_ignores, range(FEW), "states", progress=False))
    assert states == {usable_cores() > 1}  # on one core the items stay in this process


def _wait(folder: Path, ends: Callable[[], None]) -> None:
    ends()
    (folder / str(os.getpid())).touch()
    time.sleep(10 * PATIENCE)


def _start_two_and_wait(method: str, folder: Path, ends: Callable[[], None]) -> None:
    context = multiprocessing.get_context(method)
    for _ in range(2):
        context.Process(target=_wait, args=(folder, ends)).start()
    time.sleep(10 * PATIENCE)


ENDS = [("fork", end_with_launcher), *((method, end_with_parent) for method in multiprocessing.get_all_start_methods())]


def _is_running(pid: str) -> bool:
    """Return whether a process has not ended; one that has may wait for its parent to ask for its code."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def _wait_for(condition) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.process
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="the states of processes are in /proc")
@pytest.mark.parametrize(("method", "ends"), ENDS)
def test_processes_end_with_the_one_that_started_them(method: str, ends: Callable[[], None], tmp_path: Path) -> None:
    first = multiprocessing.get_context("spawn").Process(target=_start_two_and_wait, args=(method, tmp_path, ends))
    first.start()
    _wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    os.kill(first.pid, signal.SIGKILL)
    first.join()
    _wait_for(lambda: not any(_is_running(path.name) for path in tmp_path.iterdir()))
