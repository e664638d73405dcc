"""A function over many items in several processes, in order, with one progress bar."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from util.errors import UserError, WriteError

Item = TypeVar("Item")
Result = TypeVar("Result")
CHUNK = 32  # items a process takes at a time
FEW = 4 * CHUNK  # below this number, starting processes takes longer than it saves
MAX_PROCESSES = 16


def usable_cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    title: str,
    unit: str = "image",
    progress: bool = True,
    total: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order; the first error ends it.

    Args:
        function: can be pickled, for other processes.
        total: the number of items, for ``items`` without a length.
    """
    from tqdm import tqdm  # commands without bars need none

    if total is None:
        total = len(items) if isinstance(items, Sized) else 0
    bar = partial(tqdm, total=total, desc=title, unit=unit, disable=not progress)
    processes = min(usable_cores(), MAX_PROCESSES)
    if processes == 1 or total < FEW:
        yield from bar(map(function, items))
        return
    with ProcessPoolExecutor(processes, initializer=_ignore_interrupts) as pool:
        try:
            with interrupts_held_back():  # the processes start here
                results = pool.map(function, items, chunksize=CHUNK)
            yield from bar(results)
        except BaseException:
            pool.shutdown(cancel_futures=True)  # waits for the items that are being worked on
            raise


@contextmanager
def interrupts_held_back() -> Iterator[None]:
    """Let processes that are started in this block begin with Ctrl-C blocked, until they are ready to ignore it."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ignore_interrupts() -> None:
    """Ignore Ctrl-C, which the main process handles."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def attempt(function: Callable[[Item], Result], item: Item) -> Result | UserError:
    """Return the function's result for the item, or its UserError, so that errors can be counted; write errors pass."""
    try:
        return function(item)
    except WriteError:
        raise
    except UserError as error:
        return error
