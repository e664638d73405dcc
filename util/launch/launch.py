"""``train.sh`` and ``test.sh`` in Python: find the config, check the GPUs, run the stages, alone or under torchrun.

``python -m util.launch.launch train|test EXPERIMENT DATASET GPUS [text vectors] [checkpoint] [--options]``
"""

from util import requirements

if __name__ == "__main__":
    requirements.check()

import logging
import os
import shlex
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from model.registry import class_of
from util import cli
from util.config import command_line
from util.config.compose import Source, arguments_of, find_config
from util.config.read import read_config
from util.config.tree import override
from util.data.words.text import SUFFIXES
from util.evaluate.schema import RESULT
from util.files import kept_json, lock
from util.files.errors import EXIT_INTERRUPTED, UserError
from util.files.launcher import number_of
from util.launch import program
from util.launch.plan import disk_problem, plan
from util.launch.tasks import StageTask, nodes, stage_in
from util.report import figure
from util.report.table import add_format
from util.run import checkpoint
from util.run.device import CUDA, gpu_count, gpu_problem
from util.run.run import BEST, Run
from util.run.weights import start_problem

RESUME, OVERWRITE = "--resume", "--overwrite"
CAUSES = {  # why the system ends a process
    "SIGKILL": "perhaps for lack of memory",
    "SIGBUS": "perhaps for lack of shared memory: lower data.workers",
    "SIGABRT": "as torch does when a GPU or the connection of the GPUs fails (lines above; NCCL_DEBUG=WARN tells more)",
}
SCRIPTS = {"base": "train_base", "meta": "train"}  # by stage


def parse(arguments: list[str], trains: bool = True) -> tuple[Source, int, list[str]]:
    """Return what arguments of ``train.sh`` or ``test.sh`` describe: config, GPUs, and options of the scripts.

    UserError: too few or unknown arguments; no config of that experiment, data set, method and encoder.
    """
    parser = cli.Parser(prog="train.sh" if trains else "test.sh")  # whose head is the help
    parser.add_argument("experiment")
    parser.add_argument("dataset")
    parser.add_argument("gpus", type=cli.within(int, 0))
    parser.add_argument("rest", nargs="*", default=[])  # text vectors and a checkpoint, in either order
    cut = next((i for i, argument in enumerate(arguments) if argument.startswith("--")), len(arguments))
    named = parser.parse_args(arguments[:cut])
    choice = cli.Parser(add_help=False, allow_abbrev=False)
    command_line.add_method_options(choice)
    chosen, options = choice.parse_known_args(arguments[cut:])
    device = CUDA if named.gpus else "cpu"
    of_words = [option for word in named.rest for option in _meaning(word, trains)]
    source = find_config(named.experiment, named.dataset, chosen.model, chosen.net)
    return source, named.gpus, ["--set", f"run.device={device}", *of_words, *options]


def _meaning(word: str, trains: bool) -> list[str]:
    """Return the option that a word after the GPUs stands for: a checkpoint, by its ending, else text vectors.

    UserError: it can be neither.
    """
    if word.endswith(checkpoint.ENDINGS) or (Path(word) / checkpoint.MODEL).exists():
        return ["--checkpoint", word] if trains else ["--set", override("test.checkpoint", word)]
    if "=" in word:
        raise UserError(f"'{word}': write --set before a setting")
    if "/" in word and not word.endswith(SUFFIXES):
        endings = ", ".join(checkpoint.ENDINGS)
        raise UserError(f"'{word}' is neither a name of text vectors nor a checkpoint (a file {endings})")
    return ["--set", override("data.text", word)]


def check_gpus(gpus: int, command: list[str]) -> None:
    """Refuse (UserError) more GPUs than this machine has, and those that its torch cannot use.

    ``command``: a script and its arguments, whose third is the number of GPUs.
    """
    available = gpu_count()
    problem = gpu_problem() if gpus else ""
    if problem:
        raise UserError(f"{gpus} GPUs were asked for: {problem}; or {_on_gpus(0, command)} on the CPU")
    if not available < gpus:
        return
    if not available:
        raise UserError(f"this machine has no GPU; write 0 for the CPU: {_on_gpus(0, command)}")
    has = f"this machine has {available}, and {gpus} says how many, not which: {_on_gpus(available, command)}"
    raise UserError(f"{has}; for one of them: CUDA_VISIBLE_DEVICES={available - 1} {_on_gpus(1, command)}")


def _on_gpus(gpus: int, command: list[str]) -> str:
    """Return what to type for a command, a script and its arguments, on another number of GPUs."""
    script, experiment, dataset, _, *others = command
    choice = {name: os.environ.get(name) for name in command_line.CHOICE}
    names = "".join(f"{name}={shlex.quote(value)} " for name, value in choice.items() if value)
    return f"{names}sh {script} {shlex.join([experiment, dataset, str(gpus), *others])}"


def run_script(script: str, gpus: int, arguments: list[str]) -> int:
    """Run a script to its end, under torchrun if there are several processes, and return its exit code."""
    for name in command_line.CHOICE:  # the scripts get them as options
        os.environ.pop(name, None)
    arguments = [*program(script), *arguments]
    if gpus < 2 and nodes() == 1:
        return _run_alone([sys.executable, *arguments])
    return _run_together(max(gpus, 1), arguments)


def _run_together(processes: int, arguments: list[str]) -> int:
    """Run a script in several processes of this machine under torchrun, and return its exit code."""
    from torch.distributed import run as torchrun  # takes half a second
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # the scripts name the error themselves
    signal.signal(signal.SIGUSR1, lambda *_: signal.raise_signal(signal.SIGTERM))  # which torchrun passes on
    options = [*_rendezvous(), f"--nproc_per_node={processes}"]
    try:
        torchrun.run(torchrun.parse_args([*options, *arguments]))
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


def _run_alone(command: list[str]) -> int:
    """Run a process to its end and return its exit code; the terminal sends it SIGINT, ``cli.STOPS`` are passed on.

    After a signal the code is never 0: what would follow must not begin.
    """
    signals = list[int]()
    children = list[subprocess.Popen]()

    def pass_on(number: int, _: object) -> None:
        signals.append(number)
        for child in children:
            child.send_signal(number)

    for number in cli.STOPS:
        signal.signal(number, pass_on)
    child = subprocess.Popen(command)
    children.append(child)
    while (code := child.poll()) is None:
        try:
            child.wait()
        except KeyboardInterrupt:  # the child has got it too, and saves what it has
            signals.append(signal.SIGINT)
    cli.heed_stops()
    ended_by_signal = -code in cli.STOPS or (signals and code == 0)
    return EXIT_INTERRUPTED if ended_by_signal else code


@contextmanager
def claim(folder: Path) -> Iterator[None]:
    """Return the context in which no other ``train.sh`` or ``reproduce.sh`` works on a run's folder; Busy if one does.

    The lock lies beside the folder, whose files a run may delete. Of a run over several machines, which all call this,
    the folder's own lock is held by one.
    """
    if nodes() > 1:
        yield
        return
    path = folder.with_name(f".{folder.name}.lock")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with lock(path, f"{folder}: another command is using it; wait until it ends, or set another run.name"):
        try:
            yield
        finally:
            if not folder.exists():  # a refused run leaves nothing
                path.unlink()
                with suppress(OSError):
                    folder.parent.rmdir()
                    folder.parent.parent.rmdir()


def train(source: Source, gpus: int, options: list[str]) -> int:
    """Run the base stage if the model has one and its checkpoint is missing, then the meta stage; or only plan them.

    Of the ``options`` of both scripts, ``--resume`` goes to the stages that were begun, with the options that they were
    begun with; ``--checkpoint`` goes to the meta stage. UserError: a stage cannot go on from its state, or another
    command works on it (Busy).
    """
    asked = _asked_of_training(source, options)
    if command_line.show(asked):
        return 0
    run = _trainable_run(source, asked.overrides)
    continues_meta = asked.resume and run.at("meta").begun  # it holds all that it started from
    if asked.resume:
        run = run.with_training_options("meta" if run.at("meta").started else "base")
    stages = run.stages
    if "meta" in stages and not _needs_base(run, asked, continues_meta):
        stages = ["meta"]
    tasks = [stage_in(run.folder(stage), run, stage, gpus, asked) for stage in stages]
    if asked.dry_run:
        return _plan(run, tasks, asked)
    if problem := disk_problem(tasks):
        raise UserError(problem)
    kept = run.config.given[: len(run.config.given) - len(asked.overrides)]
    arguments = [*as_options(kept), *(option for option in options if option not in (RESUME, OVERWRITE))]
    for stage in stages:
        code = _train_stage(run, stage, gpus, asked, [*arguments_of(source), *arguments])
        if code:
            return code
    return 0


def _trainable_run(source: Source, overrides: list[str]) -> Run:
    """Return the run of a config; UserError: its method does not learn."""
    run = Run(read_config(source, overrides))
    if not class_of(run.config.model).learns:
        raise UserError(f"{source}: this method has nothing to train; test it with test.sh")
    return run


def _needs_base(run: Run, asked: Namespace, continues_meta: bool) -> bool:
    """Return whether the meta stage needs the base stage of its run, or shall say whether that is as it was."""
    if asked.checkpoint:
        return False
    return not continues_meta or run.at("base").finished


def _asked_of_training(source: Source, options: list[str]) -> Namespace:
    """Return the options of ``train.sh`` for a config."""
    parser = command_line.parser(None)
    parser.prog = "train.sh"
    cli.add_training_options(parser)
    cli.add_start(parser)
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args([*arguments_of(source), *options])


def _plan(run: Run, tasks: list[StageTask], asked: Namespace) -> int:
    """Print the plan of a training and return the exit code."""
    from util.train.check import Needs, lacking  # whose packages take a second

    needs = Needs().of(run.config)
    starts_from_encoder = tasks[0].left == 1 and asked.checkpoint is None
    if not starts_from_encoder:
        needs = [need for need in needs if not need.what.startswith("weights")]
    refused = lacking(needs)
    if asked.checkpoint:
        refused.append(start_problem(run, asked.checkpoint))
    return plan(tasks, refused)


def _train_stage(run: Run, stage: str, gpus: int, asked: Namespace, arguments: list[str]) -> int:
    """Run a stage's script unless a finished base stage is kept; return the exit code."""
    folder = run.folder(stage)
    with claim(folder):
        task = stage_in(folder, run, stage, gpus, asked)
        if task.refusal:
            raise UserError(task.refusal)
        if stage == "base" and not task.left:
            print(f"base stage: {folder / BEST} is kept: {task.state}", flush=True)
            return 0
        print("\n".join(filter(None, [f"{stage} stage: {folder}: {task.state}", task.note])), flush=True)
        if asked.resume and run.at(stage).begun:
            arguments = [*arguments, RESUME]
        elif asked.overwrite:
            arguments = [*arguments, OVERWRITE]
        return run_script(SCRIPTS[stage], task.used, arguments)


def test(source: Source, gpus: int, options: list[str]) -> int:
    """Score by ``test.py``, then show the results as ``report.py figures`` does; return the exit code.

    Of the ``options``, ``--figures`` and ``--format`` are of the latter.
    """
    from util.report.show import show  # whose packages take a second

    asked, arguments = _asked_of_test(options)
    run = read_config(source, asked.overrides).run
    folder = Path(run.folder) / str(run.name)
    before = _results_in(folder)
    code = run_script("test", gpus, [*arguments_of(source), *arguments])
    new = [(date, path) for path, date in _results_in(folder).items() if before.get(path) != date]
    if not code and number_of("NODE_RANK", 0, least=0) == 0:
        show([path for _, path in sorted(new)], asked.figures, asked.format)
    return code


def _results_in(folder: Path) -> dict[Path, tuple[str, float]]:
    """Return the results in the folder of a run, and the date and the minutes that each of them states."""
    dates = {}
    for path in folder.glob(f"test*/*/{RESULT}"):
        result = kept_json(path)
        dates[path] = str(result.get("date")), float(result.get("minutes", 0))
    return dates


def _asked_of_test(options: list[str]) -> tuple[Namespace, list[str]]:
    """Return the options of ``test.sh`` that are read here, and the arguments for ``test.py``."""
    parser = cli.Parser(prog="test.sh", add_help=False, allow_abbrev=False)
    command_line.add_overrides(parser)
    parser.add_argument("--figures", choices=figure.SUFFIXES, default="png")
    add_format(parser)
    asked, arguments = parser.parse_known_args(options)
    return asked, [*as_options(asked.overrides), *arguments]


def as_options(overrides: list[str]) -> list[str]:
    """Return overrides as arguments of a command line."""
    return [argument for text in overrides for argument in ("--set", text)]


def main() -> int:
    """Parse, check, run; return the exit code."""
    action, *arguments = sys.argv[1:]
    asked = [argument for argument in arguments if argument in ("--list", "--version")]
    if asked:
        command_line.parser(None).parse_args(asked)  # which prints it and ends the command
    source, gpus, options = parse(arguments, trains=action == "train")
    if "--dry-run" not in options:
        check_gpus(gpus, [f"{action}.sh", *arguments])
    if action == "train":
        return train(source, gpus, options)
    return test(source, gpus, options)


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main)
