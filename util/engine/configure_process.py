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
# Options of glibc's mallopt, M_MMAP_THRESHOLD and M_TRIM_THRESHOLD, for the same reason: keep freed memory, and serve
# blocks below 6 MiB from it. Larger blocks go back to the system: keeping them, up to glibc's limit of 32 MiB, saves no
# time, and the fragments that they leave make an episode of Sym-Net take half as long again.
MMAP_THRESHOLD, TRIM_THRESHOLD = (-3, 6 * 2**20), (-1, 256 * 2**20)


def configure_process() -> None:
    """Set up allocator and logging of this process and of those that it starts; a second call changes nothing."""
    os.environ.setdefault(HUGE_PAGES, "1")
    with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
        for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(*option)
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal's encoding lacks must not end a run
        with contextlib.suppress(AttributeError, ValueError):  # closed, or replaced
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    logging.raiseExceptions = False  # a log line that cannot be written, as on a full disk, must not end a run
