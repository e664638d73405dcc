"""``train.sh`` and ``test.sh`` in Python: find the config, check the GPUs, run the stages, alone or under torchrun.

``python -m util.launch.launch train|test EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--options]``
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch.distributed import run as torchrun
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from model.registry import class_of, models
from util import cli
from util.checkpoints import checkpoint
from util.checkpoints.checkpoint import ENDINGS
from util.checkpoints.resume import training_differences
from util.config import command_line
from util.config.command_line import Choice
from util.config.compose import config_path
from util.config.folds import masks_hold_all_classes
from util.config.read import read_config, to_dict
from util.config.settings import Config, StageSettings
from util.data.words.text import SUFFIXES
from util.errors import EXIT_INTERRUPTED, UserError
from util.files import REPOSITORY
from util.run.device import CUDA, gpu_count
from util.run.folders import BEST, LAST, PREVIOUS, base_folder, is_finished, run_folder, weights_folder
from util.train.schedule import StepSchedule

USAGE = "EXPERIMENT DATASET GPUS [text vectors] [checkpoint], such as: split0 pascal 1"
NO_CHOICE = Choice()
RESUME, OVERWRITE = "--resume", "--overwrite"


@dataclass(frozen=True)
class Launch:
    """A parsed command line; ``options`` are passed on to the scripts."""

    action: str
    config: Path
    gpus: int
    options: list[str] = field(default_factory=list)
    checkpoint: str | None = None


def parse(arguments: list[str], choice: Choice = NO_CHOICE) -> Launch:
    """Return the launch that the words of ``train.sh`` or ``test.sh`` describe.

    Args:
        arguments: the words and options; ``--model`` and ``--net`` among them win over ``choice``.

    Raises:
        UserError: too few or unknown words; no config of that experiment, data set, method and encoder.
    """
    cut = next((i for i, a in enumerate(arguments) if a.startswith("--")), len(arguments))
    words = arguments[:cut]
    if len(words) < 4:
        raise UserError(f"too few words; write {USAGE}")
    action, experiment, dataset, gpus, *rest = words
    if not gpus.isdecimal():
        raise UserError(f"'{gpus}' is not a number of GPUs; write {USAGE} (0 is the CPU)")
    chosen = cli.Parser(add_help=False, allow_abbrev=False)
    command_line.add_method_options(chosen, choice)
    method, options = chosen.parse_known_args(arguments[cut:])
    options = ["--set", f"run.device={CUDA if int(gpus) else 'cpu'}", *options]
    checkpoint = None
    for word in rest:
        if word.endswith(ENDINGS):
            checkpoint = word
        elif "/" not in word or word.endswith(SUFFIXES):
            options = ["--set", f"data.text={word}", *options]
        else:
            raise UserError(f"'{word}' is neither the name of text vectors nor a checkpoint ({', '.join(ENDINGS)})")
    return Launch(action, config_path(experiment, dataset, method.model, method.net), int(gpus), options, checkpoint)


def check_gpus(wanted: int) -> None:
    """Refuse more GPUs than this machine has.

    Raises:
        UserError: says how many there are.
    """
    have = gpu_count()
    if wanted > have:
        raise UserError(f"{wanted} GPUs were asked for, this machine has {have}; ask for at most {have} (0 is the CPU)")


def gpus_for(launch: Launch, stage: StageSettings, key: str) -> int:
    """Return how many of a launch's GPUs the batch of a training stage can be split over.

    Raises:
        UserError: the batch is too small for one process on every machine.
    """
    machines, most = _machines(), max(StepSchedule.most_processes(stage, key), 1)
    if stage.batch_per == "process" or max(launch.gpus, 1) * machines <= most:
        return launch.gpus
    if most < machines:
        raise UserError(f"{launch.config}: {key}.batch = {stage.batch} is too small for NNODES={machines}; use {most}")
    return most // machines


def _fitted(launch: Launch, stage: StageSettings, key: str) -> Launch:
    """Return the launch of a training stage on the GPUs that its batch can be split over; say so if they are fewer."""
    gpus = gpus_for(launch, stage, key)
    if gpus < launch.gpus:
        where = " of every machine" if _machines() > 1 else ""
        print(f"{key}.batch = {stage.batch} in all: {gpus} of {launch.gpus} GPUs{where} are used", flush=True)
    return replace(launch, gpus=gpus)


def _machines() -> int:
    """Return the number of machines."""
    return int(os.environ.get("NNODES", "1"))


def run_script(script: str, launch: Launch, extra: list[str]) -> int:
    """Run a script to its end, under torchrun if there are several processes, and return its exit code."""
    words = [str(REPOSITORY / script), str(launch.config), *launch.options, *extra]
    nodes = _machines()
    if launch.gpus < 2 and nodes == 1:
        return _run_alone([sys.executable, *words])
    place = ["--standalone"]
    if nodes > 1:
        place = [f"--nnodes={nodes}", f"--node_rank={os.environ.get('NODE_RANK', '0')}"]
        place += [f"--master_addr={os.environ.get('MASTER_ADDR', '127.0.0.1')}"]
        place += [f"--master_port={os.environ.get('MASTER_PORT', '29500')}"]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the scripts name the error themselves
    try:
        torchrun.run(torchrun.parse_args([*place, f"--nproc_per_node={max(launch.gpus, 1)}", *words]))
    except ChildFailedError as error:
        return _exit_code(error)
    except SignalException:
        return EXIT_INTERRUPTED
    return 0


def _exit_code(error: ChildFailedError) -> int:
    """Return the exit code of the process that failed first."""
    killed = [(rank, f) for rank, f in error.failures.items() if f.exitcode < 0 and f.exitcode != -signal.SIGTERM]
    if not killed:
        return error.get_first_failure()[1].exitcode
    rank, failure = killed[0]
    raise UserError(
        f"process {rank} was killed ({signal.Signals(-failure.exitcode).name}), perhaps for lack of memory; "
        "a training continues from its last checkpoint with --resume"
    ) from None


def _run_alone(words: list[str]) -> int:
    """Run a process to its end and return its exit code; the terminal sends it SIGINT, and SIGTERM is passed on."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    child = subprocess.Popen(words, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGINT, before)


def train(launch: Launch) -> int:
    """Run the base stage if the model has one and its checkpoint is missing, then the meta stage."""
    options = command_line.parser(None).parse_known_args([str(launch.config), *launch.options])[0]
    if options.print_config or options.write_config is not None:
        return run_script("train.py", launch, [])
    config = read_config(launch.config, options.overrides)
    if not launch.gpus and (suggestion := suggestion_for_cpu(launch, config)):
        print(suggestion, flush=True)
    resume, overwrite = RESUME in launch.options, OVERWRITE in launch.options
    launch = replace(launch, options=[o for o in launch.options if o not in (RESUME, OVERWRITE)])
    folder = base_folder(config)
    otherwise = trained_otherwise(config, "base") if launch.checkpoint is None else ""
    if otherwise and (config.run.base_folder or not overwrite):
        raise UserError(otherwise)
    if config.base_stage is not None and launch.checkpoint is None and (otherwise or not is_finished(folder)):
        print(otherwise or f"base stage: no finished {folder / BEST} yet, training it first", flush=True)
        flags = [RESUME] if resume and _can_resume(folder) else [OVERWRITE] if overwrite else []
        code = run_script("train_base.py", _fitted(launch, config.base_stage, "base_stage"), flags)
        if code:
            return code
    flags = [RESUME] if resume and _can_resume(run_folder(config, "meta")) else [OVERWRITE] if overwrite else []
    if launch.checkpoint is not None:
        flags += ["--checkpoint", launch.checkpoint]
    return run_script("train.py", _fitted(launch, config.meta_stage, "meta_stage"), flags)


def trained_otherwise(config: Config, stage: str) -> str:
    """Return a line if a run's finished stage (base, meta) was trained with other settings than the config's."""
    folder = base_folder(config) if stage == "base" else weights_folder(config)
    if getattr(config, f"{stage}_stage") is None or not is_finished(folder):
        return ""
    differences = training_differences(checkpoint.read(folder / BEST)["config"], to_dict(config), stage)
    if not differences:
        return ""
    line = f"{folder}: the {stage} stage was trained with {', '.join(differences)}"
    return f"{line}; train it again by train.sh --overwrite, or set another run.name"


def suggestion_for_cpu(launch: Launch, config: Config) -> str | None:
    """Return a line that names the method for CPUs and its command; None if it runs already, or cannot learn here."""
    if class_of(config.model).for_cpu:
        return None
    name, cls = next((name, cls) for name, cls in models().items() if cls.for_cpu)
    if cls.reads_base_labels and not masks_hold_all_classes(config.data.mask_form):
        return None
    command = f"MODEL={name} sh train.sh split{config.data.fold} {launch.config.parent.name} 0"
    return f"no GPU: {cls.title} is made for CPUs and trains within an hour: {command}"


def _can_resume(folder: Path) -> bool:
    """Return whether a folder holds a checkpoint that a training continues from."""
    return (folder / LAST).exists() or (folder / PREVIOUS).exists()


def main() -> int:
    """Parse, check, run; return the exit code."""
    launch = parse(sys.argv[1:], command_line.choice_from_environment())
    for name in command_line.CHOICE:  # the scripts get the config's file
        os.environ.pop(name, None)
    check_gpus(launch.gpus)
    if launch.action == "train":
        return train(launch)
    return run_script("test.py", launch, ["--checkpoint", launch.checkpoint] if launch.checkpoint else [])


if __name__ == "__main__":
    cli.main(main)
