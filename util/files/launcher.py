"""The place of this process among those that a launcher such as ``torchrun`` started, and its end with that."""

import os
import signal
import threading
import time
from dataclasses import dataclass

from util.files.errors import UserError

NEEDED = ("RANK", "MASTER_ADDR", "MASTER_PORT")  # beside WORLD_SIZE, where there are several processes
OF_TORCHRUN = "TORCHELASTIC_RUN_ID"  # in the processes that torchrun starts alone
FIX = "for one process: unset WORLD_SIZE; several are started by train.sh, test.sh or torchrun"


@dataclass(frozen=True)
class Place:
    """The number of this process, in all and on this machine, and that of all processes."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    meeting: str = ""  # address and port at which processes meet


def place_of_process() -> Place:
    """Return the place that the environment names; variables other than WORLD_SIZE count where that is above 1.

    UserError: the variables are incomplete or do not fit each other, as those that another launcher left over.
    """
    size = number_of("WORLD_SIZE", 1)
    if size == 1:
        return Place()
    if lacking := [name for name in NEEDED if not os.environ.get(name)]:
        raise UserError(f"WORLD_SIZE = {size}, but {', '.join(lacking)} not set; {FIX}", local=True)
    rank = number_of("RANK", 0, least=0)
    if rank >= size:
        raise UserError(f"RANK = {rank}, but WORLD_SIZE = {size}; {FIX}", local=True)
    return Place(
        rank=rank,
        size=size,
        local_rank=number_of("LOCAL_RANK", 0, least=0),
        meeting=f"{os.environ['MASTER_ADDR']}:{number_of('MASTER_PORT', 0)}",
    )


def number_of(name: str, default: int, least: int = 1) -> int:
    """Return the number in a variable of the environment; UserError: it is none, or below the least."""
    text = os.environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < least:
        raise UserError(f"{name} = '{text}' is no number of at least {least}; set it, or unset it", local=True)
    return int(text)


def is_first_of_machine() -> bool:
    """Return whether this process reports errors: all do but those that ``torchrun`` started beside a first one."""
    return OF_TORCHRUN not in os.environ or os.environ.get("LOCAL_RANK", "0") == "0"


def end_with_launcher() -> None:
    """Let this process, which ``multiprocessing`` did not start, stop as by SIGTERM when the one that started it ends.

    What takes longer than a minute then is not waited for.
    """
    threading.Thread(target=_stop_after, args=(os.getppid(),), daemon=True).start()


def _stop_after(launcher: int) -> None:
    while os.getppid() == launcher:
        time.sleep(2)
    signal.alarm(60)
    os.kill(os.getpid(), signal.SIGTERM)
