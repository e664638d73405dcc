"""``reproduce.sh`` in Python: train and test every fold and number of shots of one table, then print the table.

Everything that would stop a later experiment is said before the first training. What is done already is skipped.

``python -m util.launch.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from model.registry import class_of
from util import cli
from util.config import command_line
from util.config.compose import encoder_of, file_of, find_config, in_names, read_tree
from util.config.folder import MAIN_METHOD, methods
from util.config.read import read_config
from util.config.settings import Config
from util.files import write_atomically
from util.files.errors import UserError
from util.files.launcher import nodes
from util.launch.experiments import Experiment, run_all
from util.report.paper import table
from util.report.table import FORMATS
from util.run.arguments import check_gpus
from util.run.device import CUDA
from util.run.run import BEST, Run
from util.train.check import Finding, Needs, lacking
from util.train.dry_run import plan, refuse
from util.train.plan import check_plan


def main() -> int:
    """Check all experiments, run the missing trainings and tests, print the table and keep it in all formats."""
    options = _options()
    if not options.dry_run:
        check_gpus(options.gpus, ["reproduce.sh", *sys.argv[1:]])
    experiments, refused = experiments_of(options)
    processes = max(options.gpus, 1) * nodes()
    tasks = [task for experiment in experiments for task in experiment.tasks(processes)]
    refused += lacking(needs_of(experiments))
    if options.dry_run:
        return plan(tasks, refused)
    refused += [task.refusal for task in tasks]
    if code := refuse(refused):
        return code
    check_plan(tasks)
    code, left = run_all(experiments, options.gpus)
    if code:
        return code
    if left:
        names = ", ".join(f"{each.config.run.name} {each.config.data.shot}-shot" for each in left)
        print(f"left to other jobs: {names}; the last one to end prints the table", flush=True)
        return 0
    folder = Path(experiments[0].config.run.folder)
    _write_table(experiments, folder / f"{options.dataset}_{in_names(options.net)}_table")
    return 0


def _options() -> argparse.Namespace:
    parser = cli.Parser(prog="reproduce.sh")  # whose head is the help
    parser.add_argument("dataset")
    parser.add_argument("net")
    parser.add_argument("gpus", type=cli.within(int, 0))
    parser.add_argument("--shot", type=cli.numbers, default="1,5")
    parser.add_argument("--seeds", type=cli.numbers, default=(None,))
    for name in ("--models", "--protocol", "--folds"):
        parser.add_argument(name)
    command_line.add_overrides(parser)
    parser.add_argument("--dry-run", action="store_true")
    return parser.parse_args()


def _across_data_sets(experiments: list[Experiment]) -> bool:
    """Return whether experiments test on other data sets than they train on."""
    return bool(experiments) and experiments[0].source.data.name != experiments[0].config.data.name


def _write_table(experiments: list[Experiment], out: Path) -> None:
    """Print the table, and keep it in all formats."""
    results = [experiment.result for experiment in experiments]
    whole = table(results, across=_across_data_sets(experiments))
    for name, (suffix, _) in FORMATS.items():
        write_atomically(Path(f"{out}.{suffix}"), format(whole, name) + "\n")
    print(f"\n{whole}\n")
    print(f"saved as {out}, in the formats {', '.join(suffix for suffix, _ in FORMATS.values())}", flush=True)
    print("report.py compare MINE BASELINE gives the paired difference of two tests", flush=True)


def experiments_of(options: argparse.Namespace) -> tuple[list[Experiment], list[str]]:
    """Return every model's folds and shots, all of their configs read, and the errors of models that have none."""
    experiments = list[Experiment]()
    refused = list[str]()
    protocol = options.protocol
    for method in cli.comma_separated(options.models or os.environ.get("MODEL") or MAIN_METHOD):
        try:
            by_seed = [_experiments_of_method(options, method, protocol, seed) for seed in options.seeds]
        except UserError as error:
            refused.append(str(error))
            continue
        additions = list(chain.from_iterable(by_seed))
        experiments += {each.result: each for each in additions}.values()  # what learns nothing has no training seeds
        if not protocol and additions:
            protocol = additions[0].config.test.protocol
    return experiments, refused


def _experiments_of_method(
    options: argparse.Namespace, method: str, protocol: str | None, seed: int | None
) -> list[Experiment]:
    """Return a model's folds and shots; a training seed is part of their runs' names; errors as ``read_config``."""
    read = partial(_read, options, method, seed)
    first = read(options.dataset, 0, "data.shot=1")
    test_protocol = f"test.protocol={protocol or first.test.protocol}"
    if not first.test.data_sets:
        folds = cli.comma_separated(options.folds or "") or range(first.data.folds)
        return _experiments_of_folds(partial(read, options.dataset), method, folds, options.shot, test_protocol)
    if options.folds:
        raise UserError(f"--folds {options.folds}: {options.dataset} has no folds; leave it out")
    return _experiments_across(read, method, first, options.shot, test_protocol)


def _experiments_of_folds(
    read: Callable[..., Config], method: str, folds: Sequence[object], shots: tuple[int, ...], test_protocol: str
) -> list[Experiment]:
    """Return a model's folds and shots, which share the 1-shot training where the model allows it."""
    experiments = []
    for shot in shots:
        for fold in folds:
            source = read(fold, f"data.shot={shot}")
            if 1 in shots and _shares_training(source):
                source = read(fold, "data.shot=1")  # whichever of both comes first
            experiments.append(Experiment(method, read(fold, f"data.shot={shot}", test_protocol), source))
    return experiments


def _experiments_across(
    read: Callable[..., Config], method: str, source: Config, shots: tuple[int, ...], test_protocol: str
) -> list[Experiment]:
    """Return a model's other data sets and shots, all of which one 1-shot training serves."""
    options = [test_protocol]
    if class_of(source.model).learns:
        options += [f"test.checkpoint={Run(source).weights}", f"test.trained_on={source.data.name}"]
    experiments = []
    for shot in shots:
        for name in source.test.data_sets or ():
            experiments.append(Experiment(method, read(name, 0, f"data.shot={shot}", *options), source))
    return experiments


def _read(
    options: argparse.Namespace, method: str, seed: int | None, dataset: str, fold: object, *overrides: str
) -> Config:
    """Return the config of a fold, with the options of the command before other overrides."""
    device = CUDA if options.gpus else "cpu"
    given = [f"run.device={device}", *options.overrides, *overrides]
    if method in methods() or (path := file_of(method, dataset)) is None:
        source = find_config(f"split{fold}", dataset, method, options.net)
        return _with_seed(read_config(source, given), seed)
    encoder = encoder_of(read_tree(path))
    if encoder not in (None, in_names(options.net)):
        raise UserError(f"{path}: its encoder is {encoder}; write {encoder} instead of {options.net}")
    config = read_config(path, given)
    if str(config.data.fold) != str(fold):
        config = read_config(path, [*given, f"data.fold={fold}", f"run.name={config.run.name}_split{fold}"])
    return _with_seed(config, seed)


def _with_seed(config: Config, seed: int | None) -> Config:
    """Return the config of a run of its own for a training seed; that of a model that learns nothing stays."""
    if seed is None or not class_of(config.model).learns:
        return config
    overrides = [f"run.seed={seed}", f"run.name={config.run.name}_seed{seed}"]
    if config.run.base_folder is not None:
        base = Path(config.run.base_folder)
        overrides.append(f"run.base_folder={base.parent}_seed{seed}/{base.name}")
    return read_config(config.source, [*config.given, *overrides])


def _shares_training(config: Config) -> bool:
    """Return whether tests take the weights of another number of shots than the config's."""
    run = Run(config)
    return run.trained != run.folder("meta")


def needs_of(experiments: list[Experiment]) -> list[Finding]:
    """Return the prerequisites of all trainings and tests to be run, but those that an earlier experiment makes."""
    needs = Needs()
    findings = list[Finding]()
    made = tuple[str, ...]()  # beginnings of prerequisites
    for experiment in experiments:
        if experiment.reason:
            findings += needs.of(experiment.config, trains=False)
        if experiment.trains:
            findings += [finding for finding in needs.of(experiment.source) if not finding.what.startswith(made)]
            folders = (experiment.training.folder("base"), experiment.training.trained)
            made += tuple(f"weights {folder / BEST} for" for folder in folders)
    return findings


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main)
