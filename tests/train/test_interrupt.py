"""Signals: a terminal that closes ends a run after its step, unless nohup lets the run outlive it."""

import os
import signal

import pytest

from util.train.hooks import Interrupt


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_interrupts_a_run_that_does_not_ignore_it(before: signal.Handlers) -> None:
    restored = signal.signal(signal.SIGHUP, before)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == (before != signal.SIG_IGN)
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, restored)
