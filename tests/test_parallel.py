"""Work in several processes: Ctrl-C meets none of them before it is ready."""

from __future__ import annotations

import os
import signal

import pytest

from util.parallel import interrupts_held_back


def test_an_interrupt_is_delivered_after_the_block() -> None:
    reached, before = (
        False,
        signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # a shell's background job has none
    with pytest.raises(KeyboardInterrupt), interrupts_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())  # processes inherit it
        reached = True
    signal.signal(signal.SIGINT, before)
    assert reached
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
