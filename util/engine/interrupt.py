"""Ctrl-C (SIGINT), SIGTERM and SIGHUP end a run after its step, with a checkpoint; a second Ctrl-C ends it at once."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

HANG_UP = getattr(signal, "SIGHUP", signal.SIGTERM)  # of a terminal that closes; Windows has none


class Interrupt:
    """A context in which the first signal sets ``requested``; the earlier signal handlers are restored at its end."""

    def __init__(self) -> None:
        self.requested = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        for number in {signal.SIGINT, signal.SIGTERM, HANG_UP}:
            if number != HANG_UP or signal.getsignal(number) != signal.SIG_IGN:  # nohup lets a run outlive its terminal
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
