"""The cores and the memory of a process, and a function over many items in several processes with one progress bar."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from util.errors import UserError, WriteError

# Options of glibc's mallopt that keep freed memory, because page faults are slow. A test keeps blocks below 6 MiB;
# larger ones go back to the system, which takes a twentieth to a tenth more time and a third less memory than keeping
# them. A training keeps all, which saves a quarter to a third of a step's time and takes half as much memory again; and
# so does a test that keeps features of images, because each new image replaces one of the same size.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
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


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], title: str, progress: bool = True
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order; the first error ends it.

    ``function`` can be pickled, for other processes. (tqdm's ``process_map`` counts chunks as items.)
    """
    from tqdm import tqdm  # commands without bars need none

    processes = min(usable_cores(), 16)
    with contextlib.ExitStack() as stack:
        results: Iterable[Result] = map(function, items)
        if processes > 1 and len(items) >= FEW:
            ignore = signal.SIGINT, signal.SIG_IGN  # Ctrl-C, which this process handles
            pool = stack.enter_context(ProcessPoolExecutor(processes, initializer=signal.signal, initargs=ignore))
            stack.callback(pool.shutdown, cancel_futures=True)  # waits for the items that are being worked on
            results = pool.map(function, items, chunksize=CHUNK)
        yield from tqdm(results, total=len(items), desc=title, unit="image", disable=not progress)


def attempt(function: Callable[[Item], Result], item: Item) -> Result | UserError:
    """Return the function's result for the item, or its UserError, so that errors can be counted; write errors pass."""
    try:
        return function(item)
    except WriteError:
        raise
    except UserError as error:
        return error
