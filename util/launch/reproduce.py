"""``reproduce.sh`` in Python: train and test every fold and number of shots of one table, then print the table.

Everything that would stop a later part is said before the first training. What is done already is skipped.

``python -m util.launch.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

import argparse
import os
from multiprocessing import get_context
from pathlib import Path

from model.registry import class_of
from util import cli
from util.checkpoints.run import BEST, METRICS, Run
from util.config.compose import MAIN_METHOD, config_path, in_names
from util.config.read import read_config
from util.config.settings import Config
from util.errors import UserError
from util.files import kept_json, write_atomically
from util.launch.experiments import Experiment, run_all, run_in_two
from util.launch.launch import check_gpus
from util.launch.plan import described, plan, refuse
from util.launch.tasks import StageTask
from util.prepare.check import Finding, Needs, lacking
from util.report.compare import compare
from util.report.paper_table import table
from util.report.rows import check_mixture, published_rows
from util.report.table import FORMATS, add_format
from util.runtime.device import CUDA, pick_device
from util.runtime.processes import as_user_error
from util.train.benchmark_pass import BenchmarkPass


def main() -> int:
    """Check all parts, run the missing trainings and tests, print the table and keep it in all formats."""
    parser = cli.Parser(prog="reproduce.sh")  # whose head is the help
    parser.add_argument("dataset")
    parser.add_argument("net")
    parser.add_argument("gpus", type=cli.within(int, 0))
    parser.add_argument("--shot", type=cli.numbers, default="1,5")
    parser.add_argument("--seeds", type=cli.numbers, default=(None,))
    for name in ("--models", "--protocol", "--folds", "--published"):
        parser.add_argument(name)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    add_format(parser)
    parser.add_argument("--dry-run", action="store_true")
    parser.add_argument("--device-speed", type=cli.within(float, 0.1))
    options = parser.parse_args()
    if not options.dry_run:
        check_gpus(options.gpus)
    parts, refused = parts_of(options)
    tasks = [task for part in parts for task in part.tasks(options.gpus)]
    across = bool(parts) and parts[0].source.data.name != parts[0].config.data.name
    try:
        fix = "give all the same by --set, or leave a method out of --models"
        check_mixture({part.result: part.facts() for part in parts}, across, fix)
        published_rows(options.dataset, list(options.shot), "", chosen=options.published)
    except UserError as error:  # what would stop the table, after all trainings
        refused.append(str(error))
    refused += lacking(needs_of(parts))
    if options.dry_run:
        return plan(tasks, refused, options.gpus, options.device_speed)
    refused += [*(task.refusal for task in tasks), *(lacking_memory(tasks) if options.gpus else ())]
    if code := refuse(refused):
        return code
    out = Path(parts[0].config.run.folder) / f"{options.dataset}_{in_names(options.net)}_table"
    several = not options.gpus and sum(bool(part.reason) for part in parts) > 1
    code, left = run_in_two(parts, Path(f"{out}.log")) if several else run_all(parts, options.gpus)
    if left and not code:
        names = ", ".join(f"{part.config.run.name} {part.config.data.shot}-shot" for part in left)
        print(f"left to other jobs: {names}; the last one to end prints the table", flush=True)
    if code or left:
        return code
    whole = table([part.result for part in parts], across=across, published=options.published)
    took = {f: kept_json(f / METRICS).get("minutes") for f in (part.training.trained for part in parts if part.learns)}
    each = ", ".join(f"{folder.parent.name} {minutes:.1f}" for folder, minutes in took.items() if minutes is not None)
    whole.notes += [f"Minutes of training: {each}."] if each else []
    for name, (suffix, _) in FORMATS.items():
        write_atomically(Path(f"{out}.{suffix}"), format(whole, name) + "\n")
    print("\n".join(["", format(whole, options.format), "", *_differences(parts, options.format)]))
    print(f"saved as {out}, in the formats {', '.join(suffix for suffix, _ in FORMATS.values())}", flush=True)
    return 0


def parts_of(options: argparse.Namespace) -> tuple[list[Experiment], list[str]]:
    """Return every model's folds and shots, all of their configs read, and the errors of models that have none."""
    out, refused, protocol = list[Experiment](), list[str](), options.protocol
    for method in cli.words(options.models or os.environ.get("MODEL") or MAIN_METHOD):
        try:
            of_method = [part for seed in options.seeds for part in _parts(options, method, protocol, seed)]
        except UserError as error:
            refused.append(str(error))
            continue
        out += {part.result: part for part in of_method}.values()  # what learns nothing has no training seeds
        protocol = protocol or next((part.config.test.protocol for part in of_method), None)
    return out, refused


def _parts(options: argparse.Namespace, method: str, protocol: str | None, seed: int | None) -> list[Experiment]:
    """Return a model's folds and shots; a training seed is part of their runs' names; errors as ``read_config``."""
    given, out = [f"run.device={CUDA if options.gpus else 'cpu'}", *options.overrides], list[Experiment]()

    def read(dataset: str, fold: object, *overrides: str) -> Config:
        path = config_path(f"split{fold}", dataset, method, options.net)
        config = read_config(path, [*given, *overrides])
        if seed is None or not class_of(config.model).learns:
            return config
        own = [f"run.seed={seed}", f"run.name={config.run.name}_seed{seed}"]
        if config.run.base_folder is not None:
            base = Path(config.run.base_folder)
            own.append(f"run.base_folder={base.parent}_seed{seed}/{base.name}")
        return read_config(path, [*given, *overrides, *own])

    first = read(options.dataset, 0, "data.shot=1")
    if first.test.data_sets and options.folds:
        raise UserError(f"--folds {options.folds}: {options.dataset} has no folds; leave it out")
    if first.test.adapt and 1 in options.shot:
        raise UserError("--shot 1: test.adapt takes two supports or more; leave one of them out")
    places: list[tuple[str, object]] = [(name, 0) for name in first.test.data_sets or ()]  # across data sets
    for shot in options.shot:
        tested = [f"data.shot={shot}", f"test.protocol={protocol or first.test.protocol}"]
        if places and class_of(first.model).learns:
            tested += [f"test.checkpoint={Run(first).weights}", f"test.trained_on={first.data.name}"]
        folds = cli.words(options.folds or "") or range(first.data.folds)
        for dataset, fold in places or [(options.dataset, fold) for fold in folds]:
            source = first if places else read(dataset, fold, f"data.shot={shot}")  # one 1-shot training serves all
            run = Run(source)
            if not places and 1 in options.shot and run.trained != run.folder("meta"):
                source = read(dataset, fold, "data.shot=1")  # whichever of both parts comes first
            out.append(Experiment(method, read(dataset, fold, *tested), source))
    return out


def needs_of(parts: list[Experiment]) -> list[Finding]:
    """Return the prerequisites of all trainings and tests to be run, but those that an earlier part makes."""
    needs, made, found = Needs(), tuple[str, ...](), list[Finding]()
    for part in parts:
        found += needs.of(part.config, trains=False) if part.reason else []
        if part.trains:
            found += [finding for finding in needs.of(part.source) if not finding.what.startswith(made)]
            made += tuple(f"weights {f / BEST} for" for f in (part.training.folder("base"), part.training.trained))
    return found


def lacking_memory(tasks: list[StageTask]) -> list[str]:
    """Return which settings to lower where a training step does not fit into the memory of a GPU."""
    cases = (described(task)[1] for task in tasks if task.stage != "test" and task.left)
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:  # a process each, which gives the memory back
        return pool.map(tried, {str(case): case for case in cases}.values(), chunksize=1)


def tried(case: BenchmarkPass, device: str = CUDA) -> str:
    """Return which settings to lower if a pass of a case does not fit into the memory of a device, else ''."""
    stage = "base_stage" if case.base else "meta_stage"
    try:
        with as_user_error(f"{stage}.batch or {stage}.size, or enlarge {stage}.accumulate"):
            cli.configure_process(training=True)
            case.run(case.network(pick_device(device)), case.episodes(pick_device(device)))
    except UserError as error:
        return f"{case}: {error}"
    return ""


def _differences(parts: list[Experiment], form: str) -> list[str]:
    """Return texts that say how every model differs from the first on the same episodes, with tables of a format."""
    lines, found = [], dict[tuple, dict[str, list[Experiment]]]()
    for part in parts:
        data = part.config.data
        found.setdefault((data.name, data.fold, data.shot), {}).setdefault(part.method, []).append(part)
    for (name, fold, shot), of_methods in found.items():
        (first, firsts), *others = of_methods.items()
        for method, own in others:
            count = max(len(firsts), len(own))  # what learns nothing has one result beside several trainings
            pairs = [side[i % len(side)].result for i in range(count) for side in (firsts, own)]
            where = f"fold {fold}" if own[0].source.data.name == name else name
            lines.append(f"A: {first}, B: {method}, {where}, {shot}-shot\n\n{format(compare(*pairs), form)}\n")
    return lines


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main)
