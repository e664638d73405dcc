"""Work in several processes: Ctrl-C meets none of them before it is ready."""

from __future__ import annotations

import os
import signal

import pytest

from util.parallel import interrupts_held_back


def test_an_interrupt_is_delivered_after_the_block() -> None:
    reached = False
    with pytest.raises(KeyboardInterrupt), interrupts_held_back():
        os.kill(os.getpid(), signal.SIGINT)
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())  # processes inherit it
        reached = True
    assert reached
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, set())
