"""Work in several processes: Ctrl-C is the first process's own."""

import signal

from util.parallel import FEW, parallel_map, usable_cores


def _ignores(_: int) -> bool:
    return signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_processes_ignore_interrupts() -> None:
    states = set(parallel_map(_ignores, range(FEW), "states", progress=False))
    assert states == {usable_cores() > 1}  # on one core the items stay in this process
