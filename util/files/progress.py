"""The progress bar of every loop: drawn in place on a terminal; in a file a line a minute, and the last state."""

import sys
import time
from typing import Any

from tqdm import tqdm

INTERVAL = 60.0  # seconds between the lines of a bar in a file


class ProgressBar(tqdm):
    """A tqdm bar that can be read in a log file, too.

    Where standard error is no terminal, it writes whole lines, at most one in ``INTERVAL`` seconds, and its last state
    unless it has ``leave=False``; a short loop then writes one line or none.
    """

    def __init__(self, *args: Any, **options: Any):
        self.in_terminal = sys.stderr.isatty()
        self.written_at = time.monotonic()
        super().__init__(*args, **options)

    def display(self, msg: str | None = None, pos: int | None = None) -> Any:
        """Draw the bar; into a file, write its line if one is due. Return whether anything may have been written."""
        if self.in_terminal:
            return super().display(msg, pos)  # type: ignore[func-returns-value]  # tqdm's stubs lack the result
        if msg == "":  # from ``close``, of a bar that is not left
            return False
        if self.disable:  # from ``close``, which adds the end of the line
            self.fp.write(str(self))
        elif time.monotonic() - self.written_at >= INTERVAL:
            self.written_at = time.monotonic()
            self.fp.write(f"{self}\n")
            self.fp.flush()
        return True

    def clear(self, nolock: bool = False) -> None:
        """Remove the bar before a line above it; in a file nothing is removed."""
        if self.in_terminal:
            super().clear(nolock)
