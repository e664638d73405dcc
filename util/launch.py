"""``train.sh`` and ``test.sh``: their words, and a process for each GPU; several run under torch's ``torchrun``.

``python -m util.launch train|test EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--options]``
"""

from __future__ import annotations

from util import requirements

if __name__ == "__main__":
    requirements.check()

import logging
import os
import runpy
import signal
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import NoReturn

from util import cli
from util.config.tree import override
from util.data.words.text import SUFFIXES
from util.files import REPOSITORY
from util.files.errors import EXIT_INTERRUPTED, UserError
from util.files.launcher import nodes, place_of_process
from util.loop.device import CUDA
from util.weights import checkpoint

ALONE = {"--dry-run", "--print-config", "--list", "--version"}  # need no GPU and one process


@dataclass(frozen=True)
class Words:
    """The words of a command line, of which those after the config's may be absent."""

    config: list[str]  # a file, or an experiment and a data set
    gpus: int | None = None  # of this machine; 0: the CPU
    checkpoint: str | None = None
    settings: list[str] = field(default_factory=list)  # overrides: the device, the text vectors

    @classmethod
    def of(cls, words: list[str]) -> Words:
        """Return what words mean; UserError: one of them means nothing."""
        if len(words) < 3:
            return cls(words)
        experiment, dataset, number, *others = words
        if not number.isascii() or not number.isdecimal():
            raise UserError(f"'{number}' is no number of GPUs; name EXPERIMENT DATASET GPUS, such as split0 pascal 4")
        gpus = int(number)
        checkpoints = [word for word in others if _is_checkpoint(word)]
        texts = [word for word in others if word not in checkpoints]
        if len(checkpoints) > 1 or len(texts) > 1:
            raise UserError(f"'{' '.join(others)}': name text vectors and a checkpoint at most")
        settings = [f"run.device={CUDA if gpus else 'cpu'}"]
        for text in texts:
            _check_text(text)
            settings.append(override("data.text", text))
        return cls([experiment, dataset], gpus, next(iter(checkpoints), None), settings)


def read_words(options: Namespace) -> Words:
    """Take the words of a command line apart: its config stays in the options, with the settings of the others."""
    words = Words.of(options.config)
    options.config = words.config
    options.overrides = [*words.settings, *options.overrides]
    return words


def check_processes(words: Words) -> None:
    """Refuse (UserError) GPUs without a process for each, which the shell scripts start."""
    started = place_of_process().local_size
    if words.gpus is not None and max(words.gpus, 1) != started:
        fix = "use train.sh or test.sh; for several on the CPU leave the 0 out, and add --set run.device=cpu"
        raise UserError(f"{words.gpus} GPUs need {max(words.gpus, 1)} processes, but {started} started; {fix}")


def _is_checkpoint(word: str) -> bool:
    return word.endswith(checkpoint.ENDINGS) or (Path(word) / checkpoint.MODEL).exists()


def _check_text(word: str) -> None:
    """Refuse (UserError) a word that can be neither a checkpoint nor text vectors."""
    if "=" in word:
        raise UserError(f"'{word}': write --set before a setting")
    if ("/" in word or Path(word).is_file()) and not word.endswith(SUFFIXES):
        endings = ", ".join(checkpoint.ENDINGS)
        raise UserError(f"'{word}' is neither a name of text vectors nor a checkpoint (a file {endings})")


def program(name: str) -> list[str]:
    """Return the arguments of Python that run a command such as ``train``: its file, or its module of the package."""
    package, _, _ = cli.__name__.rpartition("util.cli")
    return ["-m", f"{package}{name}"] if package else [str(REPOSITORY / f"{name}.py")]


def main() -> int:
    """Run a script in this process or under torchrun; return the exit code.

    UserError: the words name no number of GPUs.
    """
    script, *arguments = sys.argv[1:]
    if ALONE & {*arguments}:
        run_here(script, arguments)
    words = Words.of([*takewhile(lambda word: not word.startswith("-"), arguments)])
    if words.gpus is None:
        raise UserError(f"name EXPERIMENT DATASET GPUS, such as split0 pascal 4; sh {script}.sh --help tells more")
    if words.gpus < 2 and nodes() == 1:
        run_here(script, arguments)
    return run_together(script, max(words.gpus, 1), arguments)


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
        killed = f"process {rank} was killed ({name}): see the lines above, and the machine's memory"
        raise UserError(f"{killed}; a training continues from its last checkpoint with --resume") from None


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main)
