"""``train.sh`` and ``test.sh``: their words, and a process for each GPU; several run under torch's ``torchrun``.

``python -m util.launch train|test EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--options]``
"""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import logging
import runpy
import signal
import sys
from itertools import takewhile
from pathlib import Path

import torch

from util import cli
from util.config.compose import find_config
from util.config.folder import encoders
from util.config.tree import override
from util.data.words.text import SUFFIXES
from util.files.errors import EXIT_INTERRUPTED, UserError
from util.files.project import REPOSITORY
from util.loop.device import CUDA
from util.weights import checkpoint

DRY_RUN = "--dry-run"
ALONE = {DRY_RUN, "--print-config", "--print-whole-config", "--list", "--version"}  # need no GPU and one process


def read_words(script: str, words: list[str]) -> tuple[int, list[str]]:
    """Return the number of processes, and the arguments of ``train.py`` or ``test.py`` that say what words do.

    UserError: one of them means nothing.
    """
    if len(words) < 3:
        raise UserError(
            "name EXPERIMENT DATASET GPUS first, such as split0 pascal 4",
            fix=f"options come last; sh {script}.sh --help tells more",
        )
    experiment, dataset, gpus, *others = words
    if not gpus.isascii() or not gpus.isdecimal():
        example = f"NET={gpus} sh {script}.sh {experiment} {dataset} 1" if gpus in encoders() else "split0 pascal 4"
        raise UserError(f"'{gpus}' is no number of GPUs; name EXPERIMENT DATASET GPUS, such as {example}")
    device = f"run.device={CUDA if int(gpus) else 'cpu'}"
    return max(int(gpus), 1), [experiment, dataset, "--set", device, *_options_of(script, others)]


def _options_of(script: str, words: list[str]) -> list[str]:
    """Return the options that name the text vectors and the checkpoint among words; raises as ``read_words`` does."""
    checkpoints = [word for word in words if word.endswith(checkpoint.ENDINGS) or Path(word, checkpoint.MODEL).exists()]
    texts = [word for word in words if word not in checkpoints]
    if len(checkpoints) > 1 or len(texts) > 1:
        raise UserError(f"'{' '.join(words)}': name text vectors and a checkpoint at most; options come last")
    options = []
    for text in texts:
        _check_text(text)
        options += ["--set", override("data.text", text)]
    for file in checkpoints:
        options += ["--checkpoint", file] if script == "train" else ["--set", override("test.checkpoint", file)]
    return options


def _check_text(word: str) -> None:
    """Refuse (UserError) a word that names no text vectors: a setting, or a file of another kind."""
    if "=" in word:
        raise UserError(f"'{word}' is no name of text vectors; write --set {word}")
    if Path(word).is_file() and Path(word).suffix not in SUFFIXES:
        raise UserError(
            f"'{word}' is neither a file of text vectors ({', '.join(SUFFIXES)}) "
            f"nor of weights ({', '.join(checkpoint.ENDINGS)})"
        )


def program(name: str) -> list[str]:
    """Return the arguments of Python that run a command such as ``train``: its file, or its module of the package."""
    package, _, _ = cli.__name__.rpartition("util.cli")
    return ["-m", f"{package}{name}"] if package else [str(REPOSITORY / f"{name}.py")]


def main() -> int:
    """Run a script in this process or under torchrun; return the exit code; raises as ``read_words`` does.

    A dry run is told the number of processes that it counts with.
    """
    script, *arguments = sys.argv[1:]
    words = [*takewhile(lambda word: not word.startswith("-"), arguments)]
    options = arguments[len(words) :]
    is_alone = not ALONE.isdisjoint(options)
    processes = 1
    if len(words) > 2 or not is_alone:
        processes, words = read_words(script, words)
    options = [f"{DRY_RUN}={processes}" if option == DRY_RUN else option for option in options]
    if is_alone or processes == 1:
        return run_here(script, [*words, *options])
    find_config(*words[:2])  # a mistake in these words is said before one in the number
    _refuse_missing_gpus(processes, [*words, *options])
    return run_together(script, processes, [*words, *options])


def run_here(name: str, arguments: list[str]) -> int:
    """Become a script with arguments, which ends this process by its exit code."""
    *is_module, script = program(name)
    sys.argv = [f"{name}.py", *arguments]
    run = runpy.run_module if is_module else runpy.run_path
    run(script, run_name="__main__")
    return 0


def run_together(name: str, processes: int, arguments: list[str]) -> int:
    """Run a script in several processes of this machine under torchrun, and return its exit code."""
    from torch.distributed import run as torchrun  # takes half a second
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the scripts name the error themselves
    signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))  # which torchrun passes on
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:  # by nohup; torchrun would heed it again
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    # By its address, since the name of a machine may have none
    options = ["--standalone", "--local_addr=127.0.0.1", f"--nproc_per_node={processes}"]
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


def _refuse_missing_gpus(processes: int, arguments: list[str]) -> None:
    """Raise a UserError if there are fewer GPUs than processes that take one each: once, not in each of them."""
    found = torch.cuda.device_count()
    device = [word for word in arguments if word.startswith("run.device=")][-1]
    if device.endswith(CUDA) and found < processes:
        raise UserError(
            f"{processes} GPUs are requested, and torch finds {found} on this machine",
            fix="write another number after the data set (0: the CPU)",
        )


def _refuse_killed(exit_codes: dict[int, int]) -> None:
    """Raise a UserError if a signal that no user sends ended one of several processes."""
    for rank, code in exit_codes.items():
        if code < 0 and -code not in cli.STOPS:
            raise UserError(
                f"process {rank} was killed ({signal.Signals(-code).name}): see the lines above",
                fix="a training continues from its last checkpoint with --resume",
            ) from None


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main, writes_files=True)
