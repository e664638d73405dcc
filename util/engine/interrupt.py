"""Ctrl-C (SIGINT) and SIGTERM end a run after the current step, with a checkpoint; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any


class Interrupt:
    """A context in which the first signal sets ``requested``; the earlier signal handlers are restored at its end."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
