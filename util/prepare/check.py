"""Check machine, data, lists, text vectors and weights of configs, and list missing prerequisites.

The output ends with the experiments that can be run now and a command for each missing prerequisite. Without a config
every experiment is checked, and summed up for each data set with its first gap; --all lists everything. The exit code
is 2 if one of the configs cannot be run, without a config if nothing can.
"""

import argparse
import shlex
from itertools import groupby
from pathlib import Path

from model.registry import class_of
from util.checkpoints.run import Run, StageFolder
from util.config import command_line
from util.config.compose import CONFIG, MAIN_METHOD, experiments, parts_of_name
from util.config.read import read_config
from util.errors import EXIT_USER_ERROR, UserError
from util.files import REPOSITORY
from util.prepare.datasets.recipe import DIFFERS
from util.prepare.needs import Finding, Needs, machine
from util.run.device import gpu_count

Report = tuple[str, str, list[Finding]]  # data set and command of a config; its prerequisites that are checked


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument(
        "configs",
        nargs="*",
        help="YAML files under config/, or an experiment and a data set such as: split2 pascal (default: all)",
    )
    command_line.add_method_options(parser)
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--all", action="store_true", help="without configs: list every finding and experiment")


def run(options: argparse.Namespace) -> int:
    """Check the machine and the configs, print the findings and return the exit code; errors as ``read_config``."""
    words, needs = options.configs, Needs()
    together = len(words) == 2 and not any(Path(word).suffix for word in words)  # an experiment and a data set
    if not words:
        together = bool(options.model or options.net)
    paths = [command_line.named(options, group) for group in ([words] if together else [[word] for word in words])]
    reports = [check_config(path, needs, options.overrides) for path in paths]
    for path in () if words else experiments(Path("config")):
        try:
            reports.append(check_config(path, needs, options.overrides))
        except UserError as error:  # in its place among all
            broken = Finding(f"config {path}", False, str(error), "correct that line")
            reports.append((path.parent.name, "", [broken]))
    print_reports(reports, everything=bool(words) or options.all)
    ready = [all(finding.fine for finding in findings) for *_, findings in reports]
    return 0 if (all if words else any)(ready) else EXIT_USER_ERROR


def check_config(path: Path, needs: Needs, overrides: list[str]) -> Report:
    """Return the prerequisites of one config and the command that runs it; errors as ``read_config``."""
    config, parts = read_config(path, overrides), parts_of_name(path)
    given = "".join(f" --set {shlex.quote(text)}" for text in overrides)
    action = "train" if class_of(config.model).learns else "test"
    if parts is not None and parts.folder.parent in (CONFIG, CONFIG.relative_to(REPOSITORY)):
        method = "_".join(filter(None, (parts.method, parts.variant)))
        choice = {"MODEL": None if method == MAIN_METHOD else method, "NET": parts.net}
        command = "".join(f"{name}={word} " for name, word in choice.items() if word)
        command += f"sh {action}.sh split{parts.fold} {path.parent.name} {gpu_count()}{given}"
    else:  # a file that the scripts do not know by experiment and data set
        before = config.base_stage is not None and not StageFolder(Run(config).folder("base")).finished
        command = f"python train_base.py {path}{given} && " * before + f"python {action}.py {path}{given}"
    return path.parent.name, command, needs.of(config)


def print_reports(reports: list[Report], everything: bool) -> None:
    """Print for each data set what can be run now, and a command for its first gap; all gaps and findings if asked."""
    found = dict.fromkeys(finding for *_, findings in reports for finding in findings)
    for finding in [*machine(), *found] if everything else []:
        state = "MISSING" if not finding.fine else "differs" if DIFFERS in finding.says else "ok"
        print(f"{state:8}{finding.what}: {finding.says}")
    for name, group in groupby(reports, lambda report: report[0]):
        of_dataset = list(group)
        ready = [command for _, command, findings in of_dataset if all(f.fine for f in findings)]
        print(f"{name}: {len(ready)} of {len(of_dataset)} experiments can be run now")
        for command in ready if everything else ready[:1]:
            print(f"  {command}")
        mends: dict[str, list[Finding]] = {}
        for finding in (f for *_, findings in of_dataset for f in findings if not f.fine):
            mends.setdefault(finding.mend, []).append(finding)
        for mend, waiting in list(mends.items())[: None if everything else 1]:
            print(f"  {len(waiting)} wait for {waiting[0].what}\n    {mend}")
    if not everything:
        print("python prepare.py check --all lists everything")
