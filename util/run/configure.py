"""The configuration of a process that runs a command: memory allocator and logging.

Only commands call it, first of all; importing a module of this project changes nothing in the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sys

# torch reads it at its first tensor: large tensors then lie in large pages where the system has them. Without it an
# encoder on the CPU spends a sixth of its time on page faults, since each layer returns its maps to the system.
HUGE_PAGES = "THP_MEM_ALLOC_ENABLE"
# Options of glibc's mallopt for the same reason: keep freed memory. A test keeps blocks below 6 MiB; larger ones go
# back to the system, which takes a twentieth to a tenth more time and a third less memory than keeping them. A training
# keeps all, which saves a quarter to a third of a step's time and takes half as much memory again; and so does a test
# that keeps features of images, because each new image replaces one of the same size.
TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4
KEEP_SMALL = ((MMAP_THRESHOLD, 6 * 2**20), (TRIM_THRESHOLD, 256 * 2**20))
KEEP_ALL = ((MMAP_MAX, 0), (TRIM_THRESHOLD, 2**31 - 1))


def configure_process(training: bool = False) -> None:
    """Set up allocator and logging of this process and of those that it starts; a second call changes nothing.

    Args:
        training: whether the process repeats one step often, so that all memory that it frees is used again.
    """
    os.environ.setdefault(HUGE_PAGES, "1")
    _set_options(KEEP_ALL if training else KEEP_SMALL)
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal's encoding lacks must not end a run
        with contextlib.suppress(AttributeError, ValueError):  # closed, or replaced
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logging.raiseExceptions = False  # a log line that cannot be written, as on a full disk, must not end a run


def keep_freed_memory() -> None:
    """Let this process use all memory that it frees again, instead of giving large blocks back to the system."""
    _set_options(KEEP_ALL)


def _set_options(options: tuple[tuple[int, int], ...]) -> None:
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        for option in options:
            ctypes.CDLL(None).mallopt(*option)
