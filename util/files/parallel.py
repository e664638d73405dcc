"""The cores and the memory of a process; many items: a function over them in several processes, what they share."""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.process import BaseProcess
from typing import Any, TypeVar

from util.files.errors import UserError, WriteError

# Options of glibc's mallopt that keep freed memory, because page faults are slow. Commands keep blocks below 6 MiB;
# larger ones go back to the system, which takes a twentieth to a tenth more time and a third less memory than keeping
# them. A test with a store on a CPU keeps all; a training too, which saves a quarter to a third of a step's time and
# takes half as much memory again.
TRIM_THRESHOLD = -1
MMAP_THRESHOLD = -3
MMAP_MAX = -4
KEEP_SMALL = ((MMAP_THRESHOLD, 6 * 2**20), (TRIM_THRESHOLD, 256 * 2**20))
KEEP_ALL = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))
Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK = 32  # items a process takes at a time
FEW = 4 * CHUNK  # below this number, starting processes takes longer than it saves


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_allocator(options: tuple[tuple[int, int], ...]) -> None:
    """Set how much freed memory this process keeps for itself: ``KEEP_SMALL`` or ``KEEP_ALL``."""
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        for option in options:
            ctypes.CDLL(None).mallopt(*option)


def end_with_parent() -> None:
    """Let this process, which ``multiprocessing`` started, end when the one that asked for it has, by SIGKILL too."""
    if parent := multiprocessing.parent_process():
        threading.Thread(target=_end_after, args=(parent,), daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()  # waits for a pipe whose other end closes with the parent, however Python started this process
    os._exit(1)


def begin_as_helper() -> None:
    """Prepare this process, which ``multiprocessing`` started: it ignores Ctrl-C, and ends with the first process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which the first process handles
    end_with_parent()


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], title: str, progress: bool = True
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order; the first error ends it.

    ``function`` can be pickled, for other processes. (tqdm's ``process_map`` counts chunks as items.)
    """
    from util.files.progress import ProgressBar  # commands without bars need none

    processes = min(usable_cores(), 16)
    with contextlib.ExitStack() as stack:
        results: Iterable[Result] = map(function, items)
        if processes > 1 and len(items) >= FEW:
            pool = stack.enter_context(ProcessPoolExecutor(processes, initializer=begin_as_helper))
            stack.callback(pool.shutdown, cancel_futures=True)  # waits for the items that are being worked on
            results = pool.map(function, items, chunksize=CHUNK)
        yield from ProgressBar(results, total=len(items), desc=title, unit="image", disable=not progress)


def grouped(items: Iterable[Item], fact: Callable[[Item], Any]) -> dict[Any, list[Item]]:
    """Return items by the values of a fact, in order."""
    groups: dict[Any, list[Item]] = {}
    for item in items:
        groups.setdefault(fact(item), []).append(item)
    return groups


def result_or_error(function: Callable[[Item], Result], item: Item) -> Result | UserError:
    """Return the function's result for the item, or its UserError, so that errors can be counted; write errors pass."""
    try:
        return function(item)
    except WriteError:
        raise
    except UserError as error:
        return error
