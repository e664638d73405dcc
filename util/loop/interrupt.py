"""Signals that end a training: the first one is noted, and answered after the step or the batch that it met."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

STOPS = signal.SIGTERM, signal.SIGUSR1  # before a shutdown, a preemption or the end of a job's time


class Interrupted(Exception):
    """A signal ends a validation; the checkpoint was written before it."""


class Interrupt:
    """A context in which the first signal sets ``requested``; the earlier signal handlers are restored at its end."""

    def __init__(self) -> None:
        self.requested = False
        self.agreed = False  # whether any process was asked, which all know after a step
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Interrupt:
        numbers = {signal.SIGINT, *STOPS}
        if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # of a terminal that closes; nohup ignores it
            numbers.add(signal.SIGHUP)
        for number in numbers:
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
