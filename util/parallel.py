"""Many items over many processes, in order, with one progress bar."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import TypeVar

from tqdm import tqdm

from util.errors import UserError, WriteError

Item, Result = TypeVar("Item"), TypeVar("Result")
CHUNK = 32  # items a process takes at a time
FEW = 4 * CHUNK  # so few are not worth starting processes
MAX_PROCESSES = 16


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_map(
    function: Callable[[Item], Result],
    items: Sequence[Item] | Iterable[Item],
    title: str,
    unit: str = "image",
    progress: bool = True,
    total: int | None = None,
) -> Iterator[Result]:
    """Yield ``function(item)`` for every item, in order; the first error ends it.

    Args:
        function: something that can be sent to another process.
        total: how many items there are, where ``items`` cannot tell.
    """
    total = len(items) if total is None else total
    bar = partial(tqdm, total=total, desc=title, unit=unit, disable=not progress)
    processes = min(usable_cores(), MAX_PROCESSES)
    if processes == 1 or total < FEW:
        yield from bar(map(function, items))
        return
    with ProcessPoolExecutor(processes, initializer=_leave_interrupts_to_the_main_process) as pool:
        try:
            yield from bar(pool.map(function, items, chunksize=CHUNK))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _leave_interrupts_to_the_main_process() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def attempt(function: Callable[[Item], Result], item: Item) -> Result | UserError:
    """Return what a function gives, or what is wrong with the item, to be counted with others."""
    try:
        return function(item)
    except WriteError:
        raise
    except UserError as error:
        return error
