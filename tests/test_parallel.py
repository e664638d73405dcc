"""Work in several processes: Ctrl-C meets none of them before it is ready."""

import signal

from util.parallel import FEW, interrupts_held_back, parallel_map, usable_cores


def _blocked() -> bool:
    return signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def _state(_: int) -> tuple[bool, bool]:
    return _blocked(), signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_processes_start_with_interrupts_blocked_and_then_ignore_them() -> None:
    with interrupts_held_back():
        assert _blocked()  # a process inherits it
    assert not _blocked()
    states = set(parallel_map(_state, range(FEW), "states", progress=False))
    assert states == {(False, usable_cores() > 1)}  # on one core the items stay in this process
