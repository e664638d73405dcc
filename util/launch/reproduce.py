"""``reproduce.sh`` in Python: train and test every fold and number of shots of one table, then print the table.

Everything that would stop a later part is said before the first training. What is done already is skipped.

``python -m util.launch.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmark.measure import TRAINING, Case, peak_memory
from model.registry import class_of
from util import cli
from util.checkpoints.checkpoint import changed_settings
from util.checkpoints.weights import OWN, TRAINING_FREE, UNTRAINED, weights_source
from util.config import command_line
from util.config.command_line import Choice
from util.config.compose import MAIN_METHOD, config_path
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.errors import EXIT_USER_ERROR, UserError, nearest
from util.evaluate.jobs import own_config, result_folder
from util.files import write_atomically
from util.launch.launch import (
    RESUME,
    Launch,
    check_gpus,
    gpus_for,
    parse,
    run_script,
    train,
    trained_otherwise,
)
from util.prepare.needs import Needs
from util.report.compare import compare
from util.report.paper_table import table
from util.report.schema import RESULT, read_result
from util.report.table_formats import FORMATS
from util.run.context import network_config
from util.run.device import CUDA
from util.run.folders import BEST, LAST, base_folder, is_finished, run_folder, weights_folder
from util.run.processes import as_user_error

IRRELEVANT = ("cache", "workers", "decoded_gib", "validation_list")  # data settings that do not affect scores
SUFFIX = {"markdown": "md", "latex": "tex", "csv": "csv"}


@dataclass(frozen=True)
class Part:
    """One fold or data set at one number of shots: a training and a test.

    Attributes:
        config: of the test.
        words: of ``test.sh``, but for the number of shots.
        choice: method and encoder of both.
        source: config of the training, which may be on another data set.
        source_words: of its ``train.sh``.
    """

    config: Config
    words: list[str]
    choice: Choice
    source: Config
    source_words: list[str]

    @property
    def result(self) -> Path:
        """The result file that its test leaves."""
        return result_folder(self.config, self.config.test.protocol) / RESULT

    @property
    def trains(self) -> bool:
        """Whether its training is to be run."""
        return learns(self.source) and self.source.test.checkpoint in OWN and not trained(self.source)

    @property
    def training(self) -> Launch:
        """The words of ``train.sh``; a stage that was begun is resumed."""
        config = network_config(self.source)
        begun = any((run_folder(config, stage) / LAST).exists() for stage in ("base", "meta"))
        return self._launch("train", [*self.source_words, *([RESUME] if begun else [])], config)

    def run(self) -> int:
        """Train and test where that is not done; return the exit code."""
        name, protocol = f"{self.config.run.name}, {self.config.data.shot}-shot", self.config.test.protocol
        if self.trains:
            print(f"== {self.source.run.name}, {self.source.data.shot}-shot: training ==", flush=True)
            code = train(self.training)
            if code:
                return code
        why = undone(self.config, self.result)
        if not why:
            print(f"== {name}: done ==", flush=True)
            return 0
        print(f"== {name}: test by {protocol} == ({why})", flush=True)
        return run_script("test.py", self._launch("test", self.words, self.config), ["--protocol", protocol])

    def refusals(self, needs: Needs, trials: dict[str, str], made: set[str]) -> list[str]:
        """Return why its training or test cannot run, one line each; nothing is changed.

        Args:
            needs: the findings about prerequisites that other parts share.
            trials: the lines of the steps that were tried already, by their case.
            made: checkpoints that the parts before make; this part's are added.
        """
        out: list[str] = []
        found = needs.of(self.config, trains=False) if undone(self.config, self.result) else []
        if learns(self.source) and self.source.test.checkpoint in OWN:
            out += filter(None, (trained_otherwise(self.source, stage) for stage in ("base", "meta")))
        if self.trains:
            start = f"weights {self.source.model.start().weights} for"
            found += [f for f in needs.of(self.source) if not (f.what.startswith(start) and start.split()[1] in made)]
            made |= {str(folder / BEST) for folder in (base_folder(self.source), weights_folder(self.source))}
            for key in ("base_stage", "meta_stage"):
                if (stage := getattr(self.source, key)) is None:
                    continue
                try:
                    gpus = gpus_for(self.training, stage, key)
                except UserError as error:
                    out.append(str(error))
                else:
                    out += _tried(self.source, gpus, trials) if gpus and key == "meta_stage" else []
        return out + [f"{f.what}: {f.says.partition(';')[0]}; {f.mend}" for f in found if not f.fine]

    def _launch(self, action: str, words: list[str], config: Config) -> Launch:
        return parse([action, *words, "--set", f"data.shot={config.data.shot}"], self.choice)


def _tried(config: Config, gpus: int, trials: dict[str, str]) -> list[str]:
    """Try one training step of the meta stage on a GPU, in a process of its own; return a line if it does not fit."""
    stage = config.meta_stage
    share = stage.batch if stage.batch_per == "process" else math.ceil(stage.batch / gpus)
    name = class_of(config.model).title
    case = Case(name, config, TRAINING, math.ceil(share / stage.accumulate), CUDA, threads=1, repeats=1)
    if str(case) not in trials:
        with get_context("spawn").Pool(1) as pool:
            trials[str(case)] = pool.apply(step_fits, (case,))
    return [trials[str(case)]] if trials[str(case)] else []


def step_fits(case: Case) -> str:
    """Return '' if one step of a case fits into memory, else the line that says which settings to lower."""
    try:
        with as_user_error("meta_stage.batch or meta_stage.size, or enlarge meta_stage.accumulate"):
            peak_memory(case)
    except UserError as error:
        return f"{case}: {error}"
    return ""


def main() -> int:
    """Check all parts, run the missing trainings and tests, print the table and keep it in all formats."""
    parser = cli.Parser(prog="reproduce.sh", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("net", help="such as resnet50; MODEL in the environment chooses another method")
    parser.add_argument("gpus", help="0 is the CPU")
    parser.add_argument("--shot", type=cli.numbers, default="1,5")
    parser.add_argument("--models", help="such as symnet,ssp,hdmnet, in one table, each compared with the first")
    parser.add_argument("--protocol", help="default: test.protocol of the (first) model's config")
    parser.add_argument("--folds", help="such as 0,1; default: all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    _check_number("GPUS", options.gpus)
    check_gpus(int(options.gpus))
    parts = _parts(options)
    for name in command_line.CHOICE:  # the scripts get the configs' files
        os.environ.pop(name, None)
    needs, trials, made = Needs(), dict[str, str](), set[str]()
    if refused := dict.fromkeys(line for part in parts for line in part.refusals(needs, trials, made)):
        print("\n".join(f"error: {line}" for line in refused), file=sys.stderr)
        return EXIT_USER_ERROR
    for part in parts:
        code = part.run()
        if code:
            return code
    cross_domain = parts[0].source.data.name != parts[0].config.data.name
    runs = [part.result for part in parts]
    out = Path(parts[0].config.run.folder) / f"{options.dataset}_{options.net}_table"
    for form in FORMATS:
        write_atomically(out.with_suffix(f".{SUFFIX[form]}"), table(runs, form, across=cross_domain) + "\n")
    print("\n".join(["", table(runs, across=cross_domain), "", *_differences(parts)]))
    print(f"kept as {out}.md, .tex and .csv", flush=True)
    return 0


def _parts(options: argparse.Namespace) -> list[Part]:
    """Return every model's folds and shots, all of their configs read before anything is trained."""
    out: list[Part] = []
    shots, protocol = options.shot, options.protocol
    for model in cli.words(options.models or command_line.choice_from_environment().method or MAIN_METHOD):
        choice = Choice(model, options.net)
        found = read_config(config_path("split0", options.dataset, model, options.net), options.overrides)
        protocol = protocol or found.test.protocol
        for shot in shots:
            if found.test.data_sets:
                out += [_part_elsewhere(options, choice, name, shot, protocol) for name in found.test.data_sets]
                continue
            for fold in _folds(options.folds, found):
                words = [f"split{fold}", options.dataset, options.gpus, *_set(options.overrides)]
                config = _config(f"split{fold}", options.dataset, choice, options.overrides, shot)
                out.append(Part(_of_protocol(config, protocol), words, choice, config, words))
    return out


def _part_elsewhere(options: argparse.Namespace, choice: Choice, dataset: str, shot: int, protocol: str) -> Part:
    """Return the part of one data set of a cross-domain benchmark; one 1-shot training serves all of them."""
    if options.folds is not None:
        raise UserError(f"--folds {options.folds}: {options.dataset} has no folds; leave it out")
    source = _config("split0", options.dataset, choice, options.overrides, 1)
    overrides = list(options.overrides)
    if learns(source):
        overrides += [f"test.checkpoint={weights_source(source)}", f"test.trained_on={source.data.name}"]
    config = _of_protocol(_config("split0", dataset, choice, overrides, shot), protocol)
    words = ["split0", dataset, options.gpus, *_set(overrides)]
    return Part(config, words, choice, source, ["split0", options.dataset, options.gpus, *_set(options.overrides)])


def _config(experiment: str, dataset: str, choice: Choice, overrides: list[str], shot: int) -> Config:
    path = config_path(experiment, dataset, choice.method, choice.encoder)
    return read_config(path, [*overrides, f"data.shot={shot}"])


def _of_protocol(config: Config, protocol: str) -> Config:
    """Return a config that tests by a protocol."""
    if protocol not in config.protocols:
        raise UserError(f"--protocol {protocol}: unknown{nearest(protocol, config.protocols)}")
    return own_config(config, protocol, config.data.shot)


def _set(overrides: list[str]) -> list[str]:
    return [word for text in overrides for word in ("--set", text)]


def _differences(parts: list[Part]) -> list[str]:
    """Return lines that say how every model differs from the first on the same episodes."""
    lines = []
    for part in parts:
        data = part.config.data
        of_part = data.name, data.fold, data.shot
        base = next(p for p in parts if (p.config.data.name, p.config.data.fold, p.config.data.shot) == of_part)
        if base.choice != part.choice:
            where = f"fold {data.fold}" if part.source.data.name == data.name else data.name
            title = f"{part.choice.method} and {base.choice.method}, {where}, {data.shot}-shot"
            lines.append(f"{title}: {compare(base.result, part.result)}\n")
    return lines


def _check_number(name: str, text: str) -> None:
    if not text.isdecimal():
        raise UserError(f"{name}: '{text}' is not a whole number; write DATASET NET GPUS, such as: pascal resnet50 8")


def _folds(text: str | None, config: Config) -> list[int]:
    """Return the requested folds, each once."""
    if text is None:
        return list(range(config.data.folds))
    for fold in cli.words(text):
        _check_number("--folds", fold)
        if int(fold) >= config.data.folds:
            raise UserError(f"--folds {text}: there is no fold {fold}; choose from 0 to {config.data.folds - 1}")
    return list(dict.fromkeys(map(int, cli.words(text))))


def learns(config: Config) -> bool:
    """Return whether the model has anything to train."""
    return class_of(config.model).learns


def trained(config: Config) -> bool:
    """Return whether the run's meta stage is finished."""
    return is_finished(weights_folder(config))


def undone(config: Config, path: Path) -> str:
    """Return the reason why a test of this config has to run: its result is missing or differs; '' if it need not."""
    if not path.exists():
        return "no result yet"
    try:
        result = read_result(path)
    except UserError:
        return "the result there cannot be read"
    source = weights_source(config)
    if isinstance(source, Path) and source.exists() and source.stat().st_mtime > path.stat().st_mtime:
        return "the result there is older than its weights"
    given, wanted = _terms_of(result), _terms(config)
    differ = changed_settings(given, wanted)
    return f"the result there differs in {', '.join(differ[:3])}" if differ else ""


def _terms(config: Config) -> dict[str, Any]:
    """Return all settings that affect the result of a test, as plain data."""
    test, protocol = config.test, config.protocols[config.test.protocol]
    return {
        **_deciding(to_dict(config)),
        "protocol": test.protocol,
        "protocol_settings": asdict(protocol),
        "checkpoint": _place(str(weights_source(config))),
        "episodes": test.episodes or protocol.episodes,
        "seeds": protocol.seeds if test.seeds is None else test.seeds,
        "shot": config.data.shot,
        "replayed": None,
        "fold_mismatch": False,
    }


def _terms_of(result: dict[str, Any]) -> dict[str, Any]:
    """Return the same settings of a result."""
    keys = ("protocol", "protocol_settings", "episodes", "seeds", "shot", "replayed", "fold_mismatch")
    return {
        **_deciding(result["config"]),
        **{key: result[key] for key in keys},
        "checkpoint": _place(result["checkpoint"]),
    }


def _deciding(merged: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a merged config that can affect scores."""
    data = {k: v for k, v in merged.get("data", {}).items() if k not in IRRELEVANT}
    run = {k: v for k, v in merged.get("run", {}).items() if k in ("precision", "seed")}
    return {"data": data, "model": merged.get("model", {}), "run": run}


def _place(checkpoint: str) -> str:
    """Return a checkpoint's absolute path, or the word that stands for none."""
    return checkpoint if checkpoint in (TRAINING_FREE, UNTRAINED) else str(Path(checkpoint).resolve())


if __name__ == "__main__":
    cli.main(main)
