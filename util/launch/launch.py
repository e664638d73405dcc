"""``train.sh`` and ``test.sh`` in Python: find the config, check the GPUs, run the stages, alone or under torchrun.

``python -m util.launch.launch train|test EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--options]``
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

from util.packages import loaded

with loaded():
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    from util import cli
    from util.checkpoints import checkpoint
    from util.checkpoints.resume import training_differences
    from util.config import command_line
    from util.config.compose import config_path
    from util.config.read import read_config, to_dict
    from util.config.settings import Config
    from util.data.words.text import SUFFIXES
    from util.errors import EXIT_INTERRUPTED, UserError
    from util.files import REPOSITORY
    from util.run.context import BEST, LAST, PREVIOUS, base_folder, is_finished, run_folder, weights_folder
    from util.run.device import CUDA, gpu_count
    from util.train.optim import least_batch

RESUME, OVERWRITE = "--resume", "--overwrite"
SCRIPTS = {"base": "train_base.py", "meta": "train.py"}  # by stage


def parse(arguments: list[str], prog: str = "train.sh") -> tuple[Path, int, list[str]]:
    """Return what the words of ``train.sh`` or ``test.sh`` describe: the config, the GPUs, and options of the scripts.

    Raises:
        UserError: too few or unknown words; no config of that experiment, data set, method and encoder.
    """
    out = cli.Parser(prog=prog)  # whose head is the help
    out.add_argument("experiment")
    out.add_argument("dataset")
    out.add_argument("gpus", type=cli.within(int, 0))
    out.add_argument("rest", nargs="*")  # text vectors and a checkpoint, in either order
    cut = next((i for i, word in enumerate(arguments) if word.startswith("--")), len(arguments))
    words = out.parse_args(arguments[:cut])
    chosen = cli.Parser(add_help=False, allow_abbrev=False)
    command_line.add_method_options(chosen)
    method, options = chosen.parse_known_args(arguments[cut:])
    options = ["--set", device_setting(words.gpus), *options]
    for word in words.rest:
        if word.endswith(checkpoint.ENDINGS):
            options += ["--checkpoint", word]
        elif "/" not in word or word.endswith(SUFFIXES):
            options = ["--set", f"data.text={word}", *options]
        else:
            raise UserError(f"'{word}' is no name of text vectors, nor a checkpoint ({', '.join(checkpoint.ENDINGS)})")
    return config_path(words.experiment, words.dataset, method.model, method.net), words.gpus, options


def device_setting(gpus: int) -> str:
    """Return the setting of the device for so many GPUs.

    Raises:
        UserError: this machine has fewer; says how many there are.
    """
    if gpus > (have := gpu_count()):
        raise UserError(f"{gpus} GPUs were asked for, this machine has {have}; ask for at most {have} (0 is the CPU)")
    return f"run.device={CUDA if gpus else 'cpu'}"


def usable_gpus(config: Config, stage: str, gpus: int) -> int:
    """Return how many of a machine's GPUs the batch of a training stage (base, meta) is split over; say so if fewer."""
    key, settings = f"{stage}_stage", getattr(config, f"{stage}_stage")
    most = max(settings.batch // least_batch(settings, key) // int(os.environ.get("NNODES", "1")), 1)
    if settings.batch_per == "process" or gpus <= most:
        return gpus
    print(f"{key}.batch = {settings.batch} in all: {most} of {gpus} GPUs of every machine are used", flush=True)
    return most


def run_script(script: str, gpus: int, words: list[str]) -> int:
    """Run a script to its end, under torchrun if there are several processes, and return its exit code."""
    for name in command_line.CHOICE:  # the scripts get the config's file
        os.environ.pop(name, None)
    words, nodes = [str(REPOSITORY / script), *words], int(os.environ.get("NNODES", "1"))
    if gpus < 2 and nodes == 1:
        return _run_alone([sys.executable, *words])
    place = ["--standalone"]
    if nodes > 1:
        place = [f"--nnodes={nodes}", f"--node_rank={os.environ.get('NODE_RANK', '0')}"]
        place += [f"--master_addr={os.environ.get('MASTER_ADDR', '127.0.0.1')}"]
        place += [f"--master_port={os.environ.get('MASTER_PORT', '29500')}"]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the scripts name the error themselves
    try:
        torchrun.run(torchrun.parse_args([*place, f"--nproc_per_node={max(gpus, 1)}", *words]))
    except ChildFailedError as error:
        return _exit_code(error)
    except SignalException:
        return EXIT_INTERRUPTED
    return 0


def _exit_code(error: ChildFailedError) -> int:
    """Return the exit code of the process that failed first."""
    for rank, failure in error.failures.items():
        if failure.exitcode < 0 and failure.exitcode != -signal.SIGTERM:
            raise UserError(
                f"process {rank} was killed ({signal.Signals(-failure.exitcode).name}), perhaps for lack of memory; "
                "a training continues from its last checkpoint with --resume"
            ) from None
    return error.get_first_failure()[1].exitcode


def _run_alone(words: list[str]) -> int:
    """Run a process to its end and return its exit code; the terminal sends it SIGINT, and SIGTERM is passed on."""
    child = subprocess.Popen(words)
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    while True:
        try:
            return child.wait()
        except KeyboardInterrupt:  # the child has got it too, and saves what it has
            continue


def train(path: Path, gpus: int, options: list[str]) -> int:
    """Run the base stage if the model has one and its checkpoint is missing, then the meta stage.

    Args:
        options: of both scripts; ``--resume`` goes to the stages that were begun, ``--checkpoint`` to the meta stage.

    Raises:
        UserError: the base stage was trained with other settings.
    """
    parser = command_line.parser(None)
    cli.add_training_options(parser)
    parser.add_argument("--checkpoint")
    asked = parser.parse_known_args([str(path), *options])[0]
    if asked.print_config:
        return run_script(SCRIPTS["meta"], 0, [str(path), *options])
    config = read_config(path, asked.overrides)

    def run(stage: str, folder: Path) -> int:
        begun = (folder / LAST).exists() or (folder / PREVIOUS).exists()
        flags = [RESUME] if asked.resume and begun else [OVERWRITE] if asked.overwrite else []
        passed_on = [word for word in options if word not in (RESUME, OVERWRITE)]
        return run_script(SCRIPTS[stage], usable_gpus(config, stage, gpus), [str(path), *passed_on, *flags])

    if config.base_stage is not None and asked.checkpoint is None:
        folder, otherwise = base_folder(config), trained_otherwise(config, "base")
        if otherwise and (config.run.base_folder or not asked.overwrite):
            raise UserError(otherwise)
        if otherwise or not is_finished(folder):
            print(otherwise or f"base stage: no finished {folder / BEST} yet, training it first", flush=True)
            if code := run("base", folder):
                return code
    return run("meta", run_folder(config, "meta"))


def trained_otherwise(config: Config, stage: str) -> str:
    """Return a line if a run's finished stage (base, meta) was trained with other settings than the config's."""
    folder = base_folder(config) if stage == "base" else weights_folder(config)
    if getattr(config, f"{stage}_stage") is None or not is_finished(folder):
        return ""
    differences = training_differences(checkpoint.read(folder / BEST)["config"], to_dict(config), stage)
    mend = "train it again by train.sh --overwrite, or set another run.name"
    return f"{folder}: the {stage} stage was trained with {', '.join(differences)}; {mend}" if differences else ""


def main() -> int:
    """Parse, check, run; return the exit code."""
    action, *arguments = sys.argv[1:]
    path, gpus, options = parse(arguments, f"{action}.sh")
    return train(path, gpus, options) if action == "train" else run_script("test.py", gpus, [str(path), *options])


if __name__ == "__main__":
    cli.main(main)
