"""``reproduce.sh`` in Python: train and test every fold and number of shots of one table, then print the table.

Everything that would stop a later part is said before the first training. What is done already is skipped.

``python -m util.launch.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

from __future__ import annotations

import argparse
import os
import shlex
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from util.packages import loaded

with loaded():
    from model.registry import class_of
    from util import cli
    from util.checkpoints.resume import changed_settings, options_of
    from util.checkpoints.weights import OWN, weights_source
    from util.config.compose import MAIN_METHOD, config_path, in_names
    from util.config.read import read_config, to_dict
    from util.config.settings import Config
    from util.errors import Busy, UserError
    from util.evaluate.jobs import result_folder
    from util.files import write_atomically
    from util.launch.cost import Case
    from util.launch.launch import RESUME, add_planning, check_gpus, claim, run_script, train
    from util.launch.plan import described, in_words, plan, refuse
    from util.launch.stages import Task, stage_in
    from util.prepare.needs import Finding, Needs
    from util.report.compare import compare
    from util.report.paper_table import table
    from util.report.schema import RESULT, read_result
    from util.report.table import FORMATS, add_format
    from util.run.context import BEST, base_folder, begun, is_finished, network_config, run_folder, weights_folder
    from util.run.device import CUDA, pick_device
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

    def tasks(self, gpus: int) -> list[Task]:
        """Return the tasks of its training, if it has one, and of its test."""
        source, why, out = network_config(self.source), undone(self.config, self.result), list[Task]()
        folders = {"base": base_folder(source), "meta": weights_folder(source)}
        lacks = _lacks_options(self.source) if self.learns else ""
        for stage, folder in folders.items() if self.learns else ():
            if getattr(source, f"{stage}_stage") is not None and (stage == "base" or folder != folders["base"]):
                task = stage_in(folder, source, stage, gpus)
                out.append(replace(task, refusal=lacks or task.refusal))
        return [*out, Task(self.config, "test", gpus, self.result, why or "finished", float(bool(why)))]


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
    add_planning(parser)
    options = parser.parse_args()
    if not options.dry_run:
        check_gpus(options.gpus)
    parts, refused = parts_of(options)
    tasks = [task for part in parts for task in part.tasks(options.gpus)]
    refused += lacking(parts)
    if options.dry_run:
        return plan(tasks, refused, options.gpus, options.device_speed)
    refused += [*(task.refusal for task in tasks), *(lacking_memory(tasks) if options.gpus else ())]
    if code := refuse(refused):
        return code
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


def lacking(parts: list[Part]) -> list[str]:
    """Return a line for each prerequisite that a training or a test lacks and that no earlier part makes."""
    needs, made, found = Needs(), tuple[str, ...](), list[Finding]()
    for part in parts:
        found += needs.of(part.config, trains=False) if undone(part.config, part.result) else []
        if part.trains:
            found += [finding for finding in needs.of(part.source) if not finding.what.startswith(made)]
            folders = base_folder(part.source), weights_folder(part.source)
            made += tuple(f"weights {folder / BEST} for" for folder in folders)
    return in_words(found)


def _lacks_options(source: Config) -> str:
    """Return a line if a training was begun with options that change a setting and that this command lacks."""
    folder = next(filter(begun, (weights_folder(source), run_folder(source, "base"))), Path())
    options = options_of(folder, source, ("test", "protocols"))
    options = [text for text in options if text.partition("=")[0].rpartition(".")[2] not in IRRELEVANT]
    if not options or read_config(source.path, [*options, *source.given]) == source:
        return ""
    return f"{folder}: was trained with {shlex.join(_set(options))}; give the same, or set another run.name"


def lacking_memory(tasks: list[Task]) -> list[str]:
    """Return which settings to lower where a training step does not fit into the memory of a GPU."""
    out = dict[str, str]()
    for task in tasks:
        if task.stage != "test" and task.left and str(case := described(task)[1][0][0]) not in out:
            with get_context("spawn").Pool(1) as pool:  # which gives the memory back
                out[str(case)] = pool.apply(tried, (case, CUDA))
    return list(out.values())


def tried(case: Case, device: str) -> str:
    """Return which settings to lower if a pass of a case does not fit into the memory of a device, else ''."""
    stage = "base_stage" if case.base else "meta_stage"
    try:
        with as_user_error(f"{stage}.batch or {stage}.size, or enlarge {stage}.accumulate"):
            cli.configure_process(training=True)
            case.run(case.network(pick_device(device)), case.episodes(pick_device(device)))
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
    asked = _deciding(to_dict(config))
    if set(asked["test"]["metrics"]) <= set(scored["test"]["metrics"]):  # further ones do no harm
        scored["test"]["metrics"] = asked["test"]["metrics"]
    differ = changed_settings(scored, asked)
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
