"""What is here and what is missing: machine, data, lists, word vectors and weights of the configs.

Ends with what can be run now, and the exact command for each missing thing. Without a config every experiment under
config/ is looked at. With configs the exit code is 2 when one of them cannot be run. --max-memory measures a step of
each of their stages with the smallest batches (seconds to minutes) and says which settings make it fit.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from model.registry import class_of
from util.config.read import read_config, to_dict
from util.engine.device import gpu_count
from util.engine.launch import DEFAULT_MODEL
from util.errors import EXIT_USER_ERROR, UserError
from util.prepare.findings import Finding
from util.prepare.machine import look_at_machine
from util.prepare.needs import Needs
from util.prepare.ram_estimate import look_at_memory

EXPERIMENTS = "*/*_split*.yaml"


@dataclass(frozen=True)
class Report:
    """Whether one config can be run, what it needs, and how it is started."""

    config: str
    needs: tuple[Finding, ...]
    train: str
    test: str

    @property
    def ready(self) -> bool:
        """Whether everything it needs is there."""
        return all(f.fine for f in self.needs)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("configs", nargs="*", type=Path, help="YAML files under config/ (default: all)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--json", action="store_true", help="print everything as JSON")
    parser.add_argument("--max-memory", type=float, metavar="GB", help="whether the configs fit into so much memory")


def run(options: argparse.Namespace) -> int:
    """Look at everything and print it.

    Raises:
        UserError: a config that cannot be read, or no amount of memory.
    """
    if options.max_memory is not None and not (options.configs and 0 < options.max_memory < math.inf):
        raise UserError(f"--max-memory {options.max_memory:g}: gigabytes, more than 0, and name a config")
    paths = options.configs or sorted(Path("config").glob(EXPERIMENTS))
    if not paths:
        raise UserError("config: no experiments here; run this in the project's folder")
    machine, needs = look_at_machine(), Needs()
    reports = [_look_at_any(path, needs, options) for path in paths]
    if options.max_memory is not None:
        reports = [_with_memory(r, needs, options) for r in reports]
    if options.json:
        configs = [{**asdict(r), "ready": r.ready} for r in reports]
        print(json.dumps({"machine": [asdict(f) for f in machine], "configs": configs}, indent=2))
    else:
        print_report(machine, list(needs.found.values()), reports)
    complete = all(f.fine for f in machine) and all(r.ready for r in reports)
    return 0 if complete or not options.configs else EXIT_USER_ERROR


def look_at(path: Path, needs: Needs, overrides: list[str]) -> Report:
    """Return what one config needs and the commands that run it."""
    config = read_config(path, overrides)
    model = to_dict(config)["model"]["name"]
    gpus = gpu_count()
    experiment, _, net = path.stem.removeprefix(f"{path.parent.name}_").partition("_")
    middle, net = (f"MODEL={model} ", net.removeprefix(f"{model}_")) if model != DEFAULT_MODEL else ("", net)
    words = f"{middle}NET={net} sh {{}}.sh {experiment} {path.parent.name} {gpus}"
    train = words.format("train") if class_of(config.model).learns else ""
    return Report(str(path), tuple(needs.of(config)), train, words.format("test"))


def _with_memory(report: Report, needs: Needs, options: argparse.Namespace) -> Report:
    """Return a report that says whether its config fits into the memory allowed."""
    config = read_config(report.config, options.overrides)
    found = [replace(f, what=f"{f.what} {report.config}") for f in look_at_memory(config, options.max_memory)]
    return replace(report, needs=(*report.needs, *(needs.add(f) for f in found)))


def _look_at_any(path: Path, needs: Needs, options: argparse.Namespace) -> Report:
    """Return the report of a config; of one that cannot be read as well, where all are looked at."""
    try:
        return look_at(path, needs, options.overrides)
    except UserError as error:
        if options.configs:
            raise
        return Report(str(path), (needs.add(Finding(f"config {path}", False, str(error), "mend that line")),), "", "")


def print_report(machine: list[Finding], found: list[Finding], reports: list[Report]) -> None:
    """Print findings, what can be run, and what is missing."""
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
