"""``reproduce.sh`` in Python: train and test every fold and number of shots of one table, then print the table.

Everything that would stop a later part is said before the first training. What is done already is skipped.

``python -m util.launch.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from util.packages import loaded

with loaded():
    from benchmark import TRAINING, Case, peak_memory
    from model.registry import class_of
    from util import cli
    from util.checkpoints.resume import changed_settings, options_of
    from util.checkpoints.weights import OWN, weights_source
    from util.config.compose import MAIN_METHOD, config_path, in_names
    from util.config.read import read_config, to_dict
    from util.config.settings import Config
    from util.errors import EXIT_USER_ERROR, Busy, UserError
    from util.evaluate.jobs import result_folder
    from util.files import write_atomically
    from util.launch.launch import RESUME, check_gpus, claim, processes, run_script, train, trained_otherwise
    from util.launch.plan import Task, add_options, caches_kept_apart, in_words, plan, trainings
    from util.prepare.needs import Needs
    from util.report.compare import compare
    from util.report.paper_table import table
    from util.report.schema import RESULT, read_result
    from util.report.table import FORMATS, add_format
    from util.run.context import BEST, base_folder, begun, is_finished, network_config, run_folder, weights_folder
    from util.run.device import CUDA, gpu_count
    from util.run.processes import as_user_error

IRRELEVANT = ("cache", "workers", "decoded_gib", "validation_list")  # data settings that do not affect scores


@dataclass(frozen=True)
class Part:
    """One fold or data set at one number of shots: a training and a test.

    Attributes:
        config: of the test, read with these overrides.
        source: of the training, which may be on another data set.
        given: the overrides of the command line, which the training has.
    """

    method: str
    config: Config
    overrides: list[str]
    source: Config
    given: list[str]

    @property
    def result(self) -> Path:
        """The result file that its test leaves."""
        return result_folder(self.config, self.config.test.protocol) / RESULT

    @property
    def learns(self) -> bool:
        """Whether its test takes weights that a training of this command leaves."""
        return class_of(self.source.model).learns and self.source.test.checkpoint in OWN

    @property
    def trains(self) -> bool:
        """Whether its training is to be run."""
        return self.learns and not is_finished(weights_folder(self.source))

    def run(self, gpus: int) -> int:
        """Train and test where that is not done; return the exit code.

        Raises:
            Busy: another job does.
        """
        config, source = self.config, self.source
        if self.trains:
            print(f"== {source.run.name}, {source.data.shot}-shot: training ==", flush=True)
            options = _set([*self.given, f"data.shot={network_config(source).data.shot}"])
            if code := train(Path(source.path), gpus, [*options, RESUME]):
                return code
        title = f"== {config.run.name}, {config.data.shot}-shot"
        if undone(config, self.result):
            with claim(self.result.parent):
                if why := undone(config, self.result):  # no other job has done it since
                    print(f"{title}: test by {config.test.protocol} == ({why})", flush=True)
                    return run_script("test.py", gpus, [config.path, *_set(self.overrides)])
        print(f"{title}: done ==", flush=True)
        return 0


def main() -> int:
    """Check all parts, run the missing trainings and tests, print the table and keep it in all formats."""
    parser = cli.Parser(prog="reproduce.sh")  # whose head is the help
    parser.add_argument("dataset")
    parser.add_argument("net")
    parser.add_argument("gpus", type=cli.within(int, 0))
    parser.add_argument("--shot", type=cli.numbers, default="1,5")
    for name in ("--models", "--protocol", "--folds"):
        parser.add_argument(name)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    add_format(parser)
    add_options(parser)
    options = parser.parse_args()
    if options.dry_run:
        return dry_run(options)
    check_gpus(options.gpus)
    parts, refused = parts_of(options)
    if refused := [*refused, *refusals(parts, options.gpus)]:
        print("\n".join(f"error: {line}" for line in refused), file=sys.stderr)
        return EXIT_USER_ERROR
    left = parts
    while left:
        busy: list[Part] = []
        for part in left:
            try:
                if code := part.run(options.gpus):
                    return code
            except Busy as error:
                print(error, flush=True)
                busy.append(part)
        if len(busy) == len(left):
            names = ", ".join(f"{part.config.run.name} {part.config.data.shot}-shot" for part in busy)
            print(f"left to other jobs: {names}; the one that ends last prints the table", flush=True)
            return 0
        left = busy
    whole = table([part.result for part in parts], across=parts[0].source.data.name != parts[0].config.data.name)
    out = Path(parts[0].config.run.folder) / f"{options.dataset}_{in_names(options.net)}_table"
    for name, (suffix, _) in FORMATS.items():
        write_atomically(Path(f"{out}.{suffix}"), format(whole, name) + "\n")
    print("\n".join(["", format(whole, options.format), "", *_differences(parts, options.format)]))
    print(f"kept as {out}, in the formats {', '.join(suffix for suffix, _ in FORMATS.values())}", flush=True)
    return 0


def dry_run(options: argparse.Namespace) -> int:
    """Print what this command would do; return 0, or 2 if it would refuse."""
    first, gpus = [part.config for part in parts_of(options)[0][:1]], options.gpus
    with caches_kept_apart(first) as cache:
        options.overrides.append(cache)
        parts, refused = parts_of(options)
        tasks: dict[tuple[str, Path], Task] = {}
        for part in parts:
            source = network_config(part.source)
            for folder, task in trainings(source, gpus, weights_folder(source)) if part.learns else ():
                tasks.setdefault((task.stage, folder), task)
            why = undone(part.config, part.result)
            tasks["test", part.result] = Task(part.config, "test", gpus, why or "finished", float(bool(why)))
        return plan([*tasks.values()], [*refused, *refusals(parts, gpus)], gpus, options.device_speed)


def parts_of(options: argparse.Namespace) -> tuple[list[Part], list[str]]:
    """Return every model's folds and shots, all of their configs read, and the errors of models that have none."""
    out, refused, protocol = list[Part](), list[str](), options.protocol
    for method in cli.words(options.models or os.environ.get("MODEL") or MAIN_METHOD):
        try:
            of_method = _parts(options, method, protocol)
        except UserError as error:
            refused.append(str(error))
        else:
            out += of_method
            protocol = protocol or next((part.config.test.protocol for part in of_method), None)
    return out, refused


def _parts(options: argparse.Namespace, method: str, protocol: str | None) -> list[Part]:
    """Return a model's folds and shots.

    Raises:
        UserError: one of their configs cannot be read.
    """
    given, out = [f"run.device={CUDA if options.gpus else 'cpu'}", *options.overrides], list[Part]()

    def read(dataset: str, fold: object, overrides: list[str]) -> Config:
        return read_config(config_path(f"split{fold}", dataset, method, options.net), overrides)

    first = read(options.dataset, 0, [*given, "data.shot=1"])
    if first.test.data_sets and options.folds:
        raise UserError(f"--folds {options.folds}: {options.dataset} has no folds; leave it out")
    folds = cli.words(options.folds or "") or range(first.data.folds)
    places: list[tuple[str, object]] = [(name, 0) for name in first.test.data_sets or ()]
    places = places or [(options.dataset, fold) for fold in folds]
    for shot in options.shot:
        trained = [*given, f"data.shot={shot}"]
        tested = [*trained, f"test.protocol={protocol or first.test.protocol}"]
        if first.test.data_sets and class_of(first.model).learns:
            tested += [f"test.checkpoint={weights_source(first)}", f"test.trained_on={first.data.name}"]
        for dataset, fold in places:  # of a cross-domain benchmark: one 1-shot training serves all
            config = read(dataset, fold, tested)
            source = first if first.test.data_sets else read(dataset, fold, trained)
            out.append(Part(method, config, tested, source, given))
    return out


def refusals(parts: list[Part], gpus: int) -> list[str]:
    """Return why trainings or tests cannot run, one line each; nothing is changed."""
    gpus_here = gpus and gpu_count()  # none where a dry run plans for another machine
    needs, made, lines, tried = Needs(), tuple[str, ...](), list[str](), dict[str, str]()
    for part in parts:
        found = needs.of(part.config, trains=False) if undone(part.config, part.result) else []
        if part.learns:
            lacks = _lacks_options(part.source)
            lines += [lacks] if lacks else [trained_otherwise(part.source, stage) for stage in ("base", "meta")]
        if part.trains:
            found += [finding for finding in needs.of(part.source) if not finding.what.startswith(made)]
            if gpus_here and str(case := _step(part.source, gpus)) not in tried:
                with get_context("spawn").Pool(1) as pool:  # which gives the memory back
                    tried[str(case)] = pool.apply(lacks_memory, (case, CUDA))
            folders = base_folder(part.source), weights_folder(part.source)
            made += tuple(f"weights {folder / BEST} for" for folder in folders)  # later parts may start from them
        lines += in_words(found)
    return list(dict.fromkeys(filter(None, [*lines, *tried.values()])))


def _lacks_options(source: Config) -> str:
    """Return a line if a training was begun with options that change a setting and that this command lacks."""
    folder = next(filter(begun, (weights_folder(source), run_folder(source, "base"))), Path())
    options = options_of(folder, source, ("test", "protocols"))
    options = [text for text in options if text.partition("=")[0].rpartition(".")[2] not in IRRELEVANT]
    if not options or read_config(source.path, [*options, *source.given]) == source:
        return ""
    return f"{folder}: was trained with {shlex.join(_set(options))}; give the same, or set another run.name"


def _step(config: Config, gpus: int) -> Case:
    """Return the share of one GPU in a training step of the meta stage."""
    stage = config.meta_stage
    share = stage.batch if stage.batch_per == "process" else stage.batch / processes(config, "meta", gpus)
    return Case(class_of(config.model).title, config, TRAINING, math.ceil(share / stage.accumulate))


def lacks_memory(case: Case, device: str) -> str:
    """Return which settings to lower if a pass of a case does not fit into the memory of a device, else ''."""
    try:
        with as_user_error("meta_stage.batch or meta_stage.size, or enlarge meta_stage.accumulate"):
            peak_memory(case, argparse.Namespace(device=device, threads=1))
    except UserError as error:
        return f"{case}: {error}"
    return ""


def _set(overrides: list[str]) -> list[str]:
    return [word for text in overrides for word in ("--set", text)]


def _differences(parts: list[Part], form: str) -> list[str]:
    """Return texts that say how every model differs from the first on the same episodes, with tables of a format."""
    lines, firsts = [], dict[tuple, Part]()
    for part in parts:
        data = part.config.data
        first = firsts.setdefault((data.name, data.fold, data.shot), part)
        if first is not part:
            where = f"fold {data.fold}" if part.source.data.name == data.name else data.name
            found = format(compare(first.result, part.result), form)
            lines.append(f"A: {first.method}, B: {part.method}, {where}, {data.shot}-shot\n\n{found}\n")
    return lines


def undone(config: Config, path: Path) -> str:
    """Return the reason why a test of this config has to run: its result is missing or differs; '' if it need not."""
    if not path.exists():
        return "no result yet"
    try:
        result = read_result(path)
        scored = _deciding(result["config"])
    except (UserError, KeyError):
        return "the result there cannot be read"
    source = weights_source(config)
    if result["checkpoint"] != str(source):
        return f"the result there is of {result['checkpoint']}"
    if isinstance(source, Path) and source.exists() and source.stat().st_mtime > path.stat().st_mtime:
        return "the result there is older than its weights"
    differ = changed_settings(scored, _deciding(to_dict(config)))
    return f"the result there differs in {', '.join(differ[:3])}" if differ else ""


def _deciding(merged: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a merged config that can affect the scores of its test."""
    test = merged["test"]
    return {
        "data": {key: value for key, value in merged["data"].items() if key not in IRRELEVANT},
        "model": merged["model"],
        "run": {key: merged["run"][key] for key in ("precision", "seed")},
        "test": {**{key: test[key] for key in ("episodes", "seeds", "protocol")}, "metrics": test.get("metrics", [])},
        "protocol": merged["protocols"][test["protocol"]],
    }


if __name__ == "__main__":
    cli.heed_stops()
    cli.main(main)
