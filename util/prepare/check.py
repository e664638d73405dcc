"""Check machine, data, lists, text vectors and weights of configs, and list missing prerequisites.

The output ends with the experiments that can be run now and a command for each missing prerequisite. Without a config
every experiment is checked, and summed up for each data set; --all lists everything. The exit code is 2 if one of the
configs cannot be run, without a config if nothing can.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from model.registry import class_of
from util.config import command_line
from util.config.compose import MAIN_METHOD, experiments
from util.config.read import read_config, to_dict
from util.errors import EXIT_USER_ERROR, UserError
from util.prepare.needs import Finding, Needs, check_machine
from util.run.device import gpu_count


@dataclass(frozen=True)
class Report:
    """Prerequisites of one config and the commands that run it."""

    config: str
    needs: tuple[Finding, ...]
    train: str  # command; empty for models without training
    test: str

    @property
    def ready(self) -> bool:
        """Whether all prerequisites are met."""
        return all(f.fine for f in self.needs)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "configs",
        nargs="*",
        help="YAML files under config/, or an experiment and a data set such as: split2 pascal (default: all)",
    )
    command_line.add_method_options(parser, command_line.choice_from_environment())
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--all", action="store_true", help="without configs: list every finding and experiment")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")


def run(options: argparse.Namespace) -> int:
    """Check the machine and the configs, print the findings and return the exit code.

    Raises:
        UserError: a config cannot be read.
    """
    paths = _named(options) or experiments(Path("config"))
    machine, needs = check_machine(), Needs()
    reports = [_check_any(path, needs, options) for path in paths]
    if options.json:
        configs = [{**asdict(r), "ready": r.ready} for r in reports]
        print(json.dumps({"machine": [asdict(f) for f in machine], "configs": configs}, indent=2))
    elif options.configs or options.all:
        print_report(machine, list(needs.found.values()), reports)
    else:
        print_summary(machine, reports)
    enough = all if options.configs else any
    return 0 if all(f.fine for f in machine) and enough(r.ready for r in reports) else EXIT_USER_ERROR


def _named(options: argparse.Namespace) -> list[Path]:
    """Return the paths of the configs that a command line names: files, or an experiment and a data set."""
    words = options.configs
    chosen = not words and (options.model or options.net)  # refused: of no experiment
    if chosen or (len(words) == 2 and not any(Path(word).suffix for word in words)):
        return [command_line.named(options, words)]
    return [command_line.named(options, [word]) for word in words]


def check_config(path: Path, needs: Needs, overrides: list[str]) -> Report:
    """Return the prerequisites of one config and the commands that run it.

    Raises:
        UserError: the config cannot be read.
    """
    config = read_config(path, overrides)
    model = to_dict(config)["model"]["name"]
    gpus = gpu_count()
    experiment, _, net = path.stem.removeprefix(f"{path.parent.name}_").partition("_")
    middle, net = (f"MODEL={model} ", net.removeprefix(f"{model}_")) if model != MAIN_METHOD else ("", net)
    words = f"{middle}NET={net} sh {{}}.sh {experiment} {path.parent.name} {gpus}"
    train = words.format("train") if class_of(config.model).learns else ""
    return Report(str(path), tuple(needs.of(config)), train, words.format("test"))


def _check_any(path: Path, needs: Needs, options: argparse.Namespace) -> Report:
    """Return the report of a config; if all configs are checked, one that cannot be read is a finding, no error."""
    try:
        return check_config(path, needs, options.overrides)
    except UserError as error:
        if options.configs:
            raise
        finding = needs.add(Finding(f"config {path}", False, str(error), "correct that line"))
        return Report(str(path), (finding,), "", "")


def print_summary(machine: list[Finding], reports: list[Report]) -> None:
    """Print for each data set how many experiments can be run now, and the command for each gap."""
    for finding in (f for f in machine if not f.fine):
        print(f"{finding.line()}\n    {finding.mend}")
    by_dataset: dict[str, list[Report]] = {}
    for report in reports:
        by_dataset.setdefault(Path(report.config).parent.name, []).append(report)
    for name, of_dataset in by_dataset.items():
        ready = [r for r in of_dataset if r.ready]
        print(f"{name}: {len(ready)} of {len(of_dataset)} experiments can be run now")
        if ready:
            print(f"  such as: {ready[0].train or ready[0].test}")
        waiting: dict[str, list[Finding]] = {}
        for finding in (f for r in of_dataset for f in r.needs if not f.fine):
            waiting.setdefault(finding.mend, []).append(finding)
        for mend, findings in waiting.items():
            print(f"  {len(findings)} wait for {findings[0].what}\n    {mend}")
    print("python prepare.py check --all lists everything")


def print_report(machine: list[Finding], found: list[Finding], reports: list[Report]) -> None:
    """Print all findings, the commands that can be run now, and the missing prerequisites."""
    for finding in [*machine, *found]:
        print(finding.line())
    ready = [r for r in reports if r.ready]
    print(f"\nCan be run now ({len(ready)} of {len(reports)} experiments):" if ready else "\nNothing can be run yet.")
    for report in ready:
        print(f"  {report.train or report.test}")
    for finding in (f for f in found if f.partly):
        print(f"\nNot as published: {finding.what}\n    {finding.says}")
    mends: dict[str, list[str]] = {}
    for finding in [*machine, *found]:
        if not finding.fine:
            mends.setdefault(finding.mend, []).append(finding.what)
    if mends:
        print("\nMissing:")
    for mend, what in mends.items():
        print(f"  {what[0]}{f' (and {len(what) - 1} more)' if len(what) > 1 else ''}\n    {mend}")
