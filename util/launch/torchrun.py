"""``train.sh`` and ``test.sh``: a script in a process for each GPU; several run under torch's ``torchrun``.

``python -m util.launch.torchrun train|test EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--options]``
"""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import logging
import os
import runpy
import signal
import sys
from itertools import takewhile
from typing import NoReturn

from util import cli
from util.files.errors import EXIT_INTERRUPTED, UserError
from util.files.launcher import nodes
from util.launch import program
from util.run.arguments import Words, check_gpus

ALONE = {"--dry-run", "--print-config", "--list", "--version"}  # need no GPU and one process
CAUSES = {  # why the system ends a process
    "SIGKILL": "perhaps for lack of memory",
    "SIGBUS": "perhaps for lack of shared memory: lower data.workers",
    "SIGABRT": "as torch does when a GPU or the connection of the GPUs fails (lines above; NCCL_DEBUG=WARN tells more)",
}


def main() -> int:
    """Run a script in this process or under torchrun; return the exit code.

    UserError: the words name no number of GPUs, or this machine lacks them.
    """
    name, *arguments = sys.argv[1:]
    if ALONE & {*arguments}:
        run_here(name, arguments)
    words = Words.of([*takewhile(lambda word: not word.startswith("-"), arguments)])
    if words.gpus is None:
        raise UserError(f"name EXPERIMENT DATASET GPUS, such as split0 pascal 4; sh {name}.sh --help tells more")
    check_gpus(words.gpus, [f"{name}.sh", *arguments])
    if words.gpus < 2 and nodes() == 1:
        run_here(name, arguments)
    return run_together(name, max(words.gpus, 1), arguments)


def run_here(name: str, arguments: list[str]) -> NoReturn:
    """Become a script with arguments, which ends this process."""
    *is_module, script = program(name)
    sys.argv = [f"{name}.py", *arguments]
    run = runpy.run_module if is_module else runpy.run_path
    run(script, run_name="__main__")
    raise AssertionError(f"{script} has not ended this process")


def run_together(name: str, processes: int, arguments: list[str]) -> int:
    """Run a script in several processes of this machine under torchrun, and return its exit code."""
    from torch.distributed import run as torchrun  # takes half a second
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the scripts name the error themselves
    signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))  # which torchrun passes on
    options = [*_rendezvous(), f"--nproc_per_node={processes}"]
    try:
        torchrun.run(torchrun.parse_args([*options, *program(name), *arguments]))
    except ChildFailedError as error:
        _refuse_killed({rank: failure.exitcode for rank, failure in error.failures.items()})
        code = error.get_first_failure()[1].exitcode
        return EXIT_INTERRUPTED if -code in cli.STOPS else code
    except SignalException:
        return EXIT_INTERRUPTED
    finally:
        cli.heed_stops()
    return 0


def _rendezvous() -> list[str]:
    """Return the options of torchrun that say where processes meet: on this machine, or as the environment says."""
    if nodes() == 1:
        return ["--standalone"]
    defaults = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    places = [f"--{name.lower()}={os.environ.get(name, default)}" for name, default in defaults.items()]
    return [f"--nnodes={nodes()}", *places]


def _refuse_killed(exit_codes: dict[int, int]) -> None:
    """Raise a UserError if a signal that no user sends ended one of several processes."""
    for rank, code in exit_codes.items():
        number = -code
        if number <= 0 or number in cli.STOPS:
            continue
        name = signal.Signals(number).name
        killed = f"process {rank} was killed ({name}), {CAUSES.get(name, 'see the lines above')}"
        raise UserError(f"{killed}; a training continues from its last checkpoint with --resume") from None


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main)
