"""``reproduce.sh`` in Python: every fold and number of shots of one table, what is done skipped, the table at the end.

``python -m util.engine.reproduce DATASET NET GPUS [--shot 1,5] [--protocol ...] [--set section.key=value]``
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from model.registry import class_of
from util import cli
from util.config import read_config
from util.engine.build import run_folder, with_data
from util.engine.launch import RESUME, Launch, check_gpus, find_config, parse, run_script, train
from util.engine.training import BEST, LAST, METRICS
from util.errors import UserError
from util.report.paper_table import FORMATS, table
from util.report.schema import RESULT, read_result
from util.settings import Config

SUFFIX = {"markdown": "md", "latex": "tex", "csv": "csv"}


def main() -> int:
    """Train and test what is missing, fold by fold; print the table and keep it in all formats."""
    parser = argparse.ArgumentParser(prog="reproduce.sh", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("net", help="such as resnet50; MODEL in the environment picks another model")
    parser.add_argument("gpus", help="0 is the CPU")
    parser.add_argument("--shot", default="1,5")
    parser.add_argument("--protocol", help="default: the config's test.protocol")
    parser.add_argument("--folds", help="such as 0,1; default: all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    os.environ["NET"] = options.net
    _check_number("GPUS", options.gpus)
    check_gpus(int(options.gpus))
    shots = cli.numbers("--shot", options.shot)
    found = read_config(find_config("split0", options.dataset), options.overrides)
    wanted = cli.words(options.folds or ",".join(map(str, range(found.data.folds))))
    runs = []
    for fold in wanted:
        _check_number("--folds", fold)
        for shot in shots:
            code, folder = _one(options, f"split{fold}", shot)
            if code:
                return code
            runs.append(folder)
    out = Path(found.run.folder) / f"{options.dataset}_{options.net}_table"
    for form in FORMATS:
        out.with_suffix(f".{SUFFIX[form]}").write_text(table(runs, form) + "\n", encoding="utf-8")
    print(f"\n{table(runs)}\n\nkept as {out}.md, .tex and .csv", flush=True)
    return 0


def _check_number(name: str, text: str) -> None:
    if not text.isdigit():
        raise UserError(f"{name}: '{text}' is not a whole number; write DATASET NET GPUS, such as: pascal resnet50 8")


def _one(options: argparse.Namespace, experiment: str, shot: int) -> tuple[int, Path]:
    """Train and test one fold at one number of shots where that is not done; return the exit code and the result."""
    sets = [word for text in [*options.overrides, f"data.shot={shot}"] for word in ("--set", text)]
    words = [experiment, options.dataset, options.gpus, *sets]
    launch = parse(["train", *words])
    config = with_data(read_config(launch.config, options.overrides), shot=shot)
    protocol = options.protocol or config.test.protocol
    result = run_folder(config, "test") / protocol / RESULT
    name = f"{config.run.name}, {shot}-shot"
    if learns(config) and not trained(config):
        print(f"== {name}: training ==", flush=True)
        code = train(_resuming(launch, config))
        if code:
            return code, result
    if tested(config, result):
        print(f"== {name}: done ==", flush=True)
        return 0, result
    print(f"== {name}: test by {protocol} ==", flush=True)
    return run_script("test.py", parse(["test", *words]), ["--protocol", protocol]), result


def _resuming(launch: Launch, config: Config) -> Launch:
    """Return the launch, asking to resume where a stage of this run was begun."""
    begun = any((run_folder(config, stage) / LAST).exists() for stage in ("base", "meta"))
    launch.options += [RESUME] if begun else []
    return launch


def learns(config: Config) -> bool:
    """Return whether the model has anything to train."""
    return class_of(config.model).learns


def trained(config: Config) -> bool:
    """Return whether the run's meta stage is finished."""
    folder = run_folder(config, "meta")
    try:
        return bool(json.loads((folder / METRICS).read_text())["finished"]) and (folder / BEST).exists()
    except (OSError, ValueError, KeyError):
        return False


def tested(config: Config, path: Path) -> bool:
    """Return whether there is a full result, newer than the weights it is of."""
    if not path.exists():
        return False
    weights = run_folder(config, "meta") / BEST
    stale = learns(config) and weights.exists() and weights.stat().st_mtime > path.stat().st_mtime
    return not stale and not read_result(path)["quick_look"]


if __name__ == "__main__":
    cli.main(main)
