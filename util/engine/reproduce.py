"""``reproduce.sh`` in Python: train and test every fold and number of shots of one table, then print the table.

Trainings and tests that are done already are skipped.

``python -m util.engine.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from model.registry import class_of
from util import cli
from util.config.compose import MAIN_METHOD, config_path
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.engine.checkpoint import changed_settings
from util.engine.folders import LAST, is_finished, run_folder, weights_folder
from util.engine.launch import RESUME, Choice, Launch, check_gpus, choice_from_environment, parse, run_script, train
from util.engine.run_context import network_config
from util.engine.test_jobs import own_config, result_folder
from util.engine.weights import OWN, TRAINING_FREE, UNTRAINED, weights_source
from util.errors import UserError, nearest
from util.files import write_atomically
from util.report.compare import compare
from util.report.cross_domain import cross_domain_table
from util.report.paper_table import table
from util.report.schema import RESULT, read_result
from util.report.table_formats import FORMATS

IRRELEVANT = ("cache", "workers", "decoded_gib", "validation_list")  # data settings that do not affect scores
LATER = {"mask_form": "indices"}  # data settings that older results lack
MAX_SHOWN = 3  # differences named
SUFFIX = {"markdown": "md", "latex": "tex", "csv": "csv"}


def main() -> int:
    """Run the missing trainings and tests, fold by fold; print the table and keep it in all formats."""
    parser = cli.Parser(prog="reproduce.sh", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("net", help="such as resnet50; MODEL in the environment chooses another method")
    parser.add_argument("gpus", help="0 is the CPU")
    parser.add_argument("--shot", default="1,5")
    parser.add_argument("--models", help="such as symnet,ssp,hdmnet, in one table, each compared with the first")
    parser.add_argument("--protocol", help="default: test.protocol of the (first) model's config")
    parser.add_argument("--folds", help="such as 0,1; default: all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    _check_number("GPUS", options.gpus)
    check_gpus(int(options.gpus))
    parts = _parts(options, cli.numbers("--shot", options.shot))
    for part in parts:
        code = part.run()
        if code:
            return code
    runs, make_table = [part.result for part in parts], cross_domain_table if parts[0].source else table
    out = Path(parts[0].config.run.folder) / f"{options.dataset}_{options.net}_table"
    for form in FORMATS:
        write_atomically(out.with_suffix(f".{SUFFIX[form]}"), make_table(runs, form) + "\n")
    print("\n".join(["", make_table(runs), "", *_differences(parts)]))
    print(f"kept as {out}.md, .tex and .csv", flush=True)
    return 0


def _parts(options: argparse.Namespace, shots: Sequence[int]) -> list[Part]:
    """Return every model's folds and shots, all of their configs read before anything is trained."""
    out: list[Part] = []
    protocol = options.protocol
    for model in cli.words(options.models or choice_from_environment().method or MAIN_METHOD):
        choice = Choice(model, options.net)
        found = read_config(config_path("split0", options.dataset, model, options.net), options.overrides)
        protocol = protocol or found.test.protocol
        if found.test.data_sets:
            sets = found.test.data_sets
            out += [_cross_domain_part(options, choice, name, shot, protocol) for shot in shots for name in sets]
            continue
        out += [_part(options, choice, fold, shot, protocol) for fold in _folds(options.folds, found) for shot in shots]
    return out


def _differences(parts: list[Part]) -> list[str]:
    """Return lines that say how every model differs from the first on the same episodes."""
    lines = []
    for part in parts:
        data = part.config.data
        of_part = data.name, data.fold, data.shot
        base = next(p for p in parts if (p.config.data.name, p.config.data.fold, p.config.data.shot) == of_part)
        if base.choice != part.choice:
            where = f"fold {data.fold}" if part.source is None else data.name
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
    if not cli.words(text):
        raise UserError(f"--folds '{text}': names no fold; write such as 0,1")
    return list(dict.fromkeys(map(int, cli.words(text))))


@dataclass(frozen=True)
class Part:
    """One fold or data set at one number of shots: a training and a test; ``config`` is the test's."""

    config: Config
    words: list[str]  # of train.sh and test.sh, but for the number of shots
    choice: Choice  # method and encoder of both
    source: Config | None = None  # of the training, where it is on another data set
    source_words: list[str] = field(default_factory=list)  # of its train.sh

    @property
    def result(self) -> Path:
        """The result file that its test leaves."""
        return result_folder(self.config, self.config.test.protocol) / RESULT

    def run(self) -> int:
        """Train and test where that is not done; return the exit code."""
        name, protocol = f"{self.config.run.name}, {self.config.data.shot}-shot", self.config.test.protocol
        source, words = (self.config, self.words) if self.source is None else (self.source, self.source_words)
        if learns(source) and source.test.checkpoint in OWN and not trained(source):
            print(f"== {source.run.name}, {source.data.shot}-shot: training ==", flush=True)
            network = network_config(source)
            code = train(_resuming(self._launch("train", words, network), network))
            if code:
                return code
        why = undone(self.config, self.result)
        if not why:
            print(f"== {name}: done ==", flush=True)
            return 0
        print(f"== {name}: test by {protocol} == ({why})", flush=True)
        return run_script("test.py", self._launch("test", self.words, self.config), ["--protocol", protocol])

    def _launch(self, action: str, words: list[str], config: Config) -> Launch:
        return parse([action, *words, "--set", f"data.shot={config.data.shot}"], self.choice)


def _part(options: argparse.Namespace, choice: Choice, fold: int, shot: int, protocol: str) -> Part:
    """Return one part.

    Raises:
        UserError: its config cannot be read, or has no such protocol.
    """
    words = _words(f"split{fold}", options)
    path = config_path(f"split{fold}", options.dataset, choice.method, choice.encoder)
    config = read_config(path, [*options.overrides, f"data.shot={shot}"])
    if protocol not in config.protocols:
        raise UserError(f"--protocol {protocol}: unknown{nearest(protocol, config.protocols)}")
    return Part(own_config(config, protocol, shot), words, choice)


def _cross_domain_part(options: argparse.Namespace, choice: Choice, dataset: str, shot: int, protocol: str) -> Part:
    """Return the part of one data set of a cross-domain benchmark; one 1-shot training serves all of them.

    Raises:
        UserError: a config cannot be read, or has no such protocol; or folds were asked for.
    """
    if options.folds is not None:
        raise UserError(f"--folds {options.folds}: {options.dataset} has no folds; leave it out")
    path = config_path("split0", options.dataset, choice.method, choice.encoder)
    source = read_config(path, [*options.overrides, "data.shot=1"])
    overrides = list(options.overrides)
    if learns(source):
        best = weights_source(source)
        overrides += [f"test.checkpoint={best}", f"test.trained_on={source.data.name}"]
    own = argparse.Namespace(**{**vars(options), "dataset": dataset, "overrides": overrides})
    of_source = _words("split0", options)
    return replace(_part(own, choice, 0, shot, protocol), source=source, source_words=of_source)


def _words(experiment: str, options: argparse.Namespace) -> list[str]:
    """Return the words of train.sh and test.sh for an experiment."""
    return [experiment, options.dataset, options.gpus, *(w for text in options.overrides for w in ("--set", text))]


def _resuming(launch: Launch, config: Config) -> Launch:
    """Return the launch, with the option to resume if a stage of this run was begun."""
    begun = any((run_folder(config, stage) / LAST).exists() for stage in ("base", "meta"))
    return replace(launch, options=[*launch.options, RESUME]) if begun else launch


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
    return f"the result there differs in {', '.join(differ[:MAX_SHOWN])}" if differ else ""


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
    data = {k: v for k, v in {**LATER, **merged.get("data", {})}.items() if k not in IRRELEVANT}
    run = {k: v for k, v in merged.get("run", {}).items() if k in ("precision", "seed")}
    return {"data": data, "model": merged.get("model", {}), "run": run}


def _place(checkpoint: str) -> str:
    """Return a checkpoint's absolute path, or the word that stands for none."""
    return checkpoint if checkpoint in (TRAINING_FREE, UNTRAINED) else str(Path(checkpoint).resolve())


if __name__ == "__main__":
    cli.main(main)
