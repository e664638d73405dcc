"""``reproduce.sh`` in Python: every fold and number of shots of one table, what is done skipped, the table at the end.

``python -m util.engine.reproduce DATASET NET GPUS [--models ...] [--shot 1,5] [--protocol ...] [--set ...]``
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.registry import class_of
from util import cli
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.engine.checkpoint import changed_settings
from util.engine.launch import DEFAULT_MODEL, RESUME, Launch, check_gpus, find_config, parse, run_script, train
from util.engine.run_context import network_config, run_folder, weights_folder
from util.engine.test_jobs import OWN, TRAINING_FREE, UNTRAINED, own_config, result_folder, weights_source
from util.engine.trainer import LAST, is_finished
from util.errors import UserError, nearest
from util.files import write_atomically
from util.report.compare import compare
from util.report.paper_table import FORMATS, table
from util.report.schema import RESULT, read_result

NO_MATTER = ("cache", "workers", "decoded_gib")  # data settings that change no score
SHOWN = 3  # differences named
SUFFIX = {"markdown": "md", "latex": "tex", "csv": "csv"}


def main() -> int:
    """Train and test what is missing, fold by fold; print the table and keep it in all formats."""
    parser = cli.Parser(prog="reproduce.sh", description=__doc__)
    parser.add_argument("dataset")
    parser.add_argument("net", help="such as resnet50; MODEL in the environment picks another model")
    parser.add_argument("gpus", help="0 is the CPU")
    parser.add_argument("--shot", default="1,5")
    parser.add_argument("--models", help="such as symnet,ssp,hdmnet, in one table, each compared with the first")
    parser.add_argument("--protocol", help="default: test.protocol of the (first) model's config")
    parser.add_argument("--folds", help="such as 0,1; default: all")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    options = parser.parse_args()
    os.environ["NET"] = options.net
    _check_number("GPUS", options.gpus)
    check_gpus(int(options.gpus))
    parts = _parts(options, cli.numbers("--shot", options.shot))
    for part in parts:
        code = part.run()
        if code:
            return code
    runs = [part.result for part in parts]
    out = Path(parts[0].config.run.folder) / f"{options.dataset}_{options.net}_table"
    for form in FORMATS:
        write_atomically(out.with_suffix(f".{SUFFIX[form]}"), table(runs, form) + "\n")
    print("\n".join(["", table(runs), "", *_differences(parts)]))
    print(f"kept as {out}.md, .tex and .csv", flush=True)
    return 0


def _parts(options: argparse.Namespace, shots: list[int]) -> list[Part]:
    """Return every model's folds and shots, all of their configs read before anything is trained."""
    out: list[Part] = []
    for model in cli.words(options.models or os.environ.get("MODEL", DEFAULT_MODEL)):
        os.environ["MODEL"] = model
        found = read_config(find_config("split0", options.dataset), options.overrides)
        options.protocol = options.protocol or found.test.protocol
        out += [_part(options, fold, shot, model) for fold in _folds(options.folds, found) for shot in shots]
    return out


def _differences(parts: list[Part]) -> list[str]:
    """Return in words how every model differs from the first on the same episodes."""
    lines = []
    for part in parts:
        data = part.config.data
        base = next(p for p in parts if (p.config.data.fold, p.config.data.shot) == (data.fold, data.shot))
        if base.model != part.model:
            title = f"{part.model} and {base.model}, fold {data.fold}, {data.shot}-shot"
            lines.append(f"{title}: {compare(base.result, part.result)}\n")
    return lines


def _check_number(name: str, text: str) -> None:
    if not text.isdecimal():
        raise UserError(f"{name}: '{text}' is not a whole number; write DATASET NET GPUS, such as: pascal resnet50 8")


def _folds(text: str | None, config: Config) -> list[int]:
    """Return the folds asked for, each once."""
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
    """One fold at one number of shots: a training and a test; ``config`` is what the test is to be of."""

    config: Config
    words: list[str]  # of train.sh and test.sh, but for the number of shots
    model: str  # MODEL of both

    @property
    def result(self) -> Path:
        """The result file that its test leaves."""
        return result_folder(self.config, self.config.test.protocol) / RESULT

    def run(self) -> int:
        """Train and test where that is not done; return the exit code."""
        os.environ["MODEL"] = self.model
        name, protocol = f"{self.config.run.name}, {self.config.data.shot}-shot", self.config.test.protocol
        if learns(self.config) and self.config.test.checkpoint in OWN and not trained(self.config):
            print(f"== {name}: training ==", flush=True)
            network = network_config(self.config)
            code = train(_resuming(parse(["train", *self._with_shots(network)]), network))
            if code:
                return code
        why = undone(self.config, self.result)
        if not why:
            print(f"== {name}: done ==", flush=True)
            return 0
        print(f"== {name}: test by {protocol} == ({why})", flush=True)
        return run_script("test.py", parse(["test", *self._with_shots(self.config)]), ["--protocol", protocol])

    def _with_shots(self, config: Config) -> list[str]:
        return [*self.words, "--set", f"data.shot={config.data.shot}"]


def _part(options: argparse.Namespace, fold: int, shot: int, model: str) -> Part:
    """Return one part, its config read and its protocol known."""
    sets = [word for text in options.overrides for word in ("--set", text)]
    words = [f"split{fold}", options.dataset, options.gpus, *sets]
    launch = parse(["train", *words])
    config = read_config(launch.config, [*options.overrides, f"data.shot={shot}"])
    protocol = options.protocol or config.test.protocol
    if protocol not in config.protocols:
        raise UserError(f"--protocol {protocol}: unknown{nearest(protocol, config.protocols)}")
    return Part(own_config(config, protocol, shot), words, model)


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
    return is_finished(weights_folder(config))


def undone(config: Config, path: Path) -> str:
    """Return in what a result is not the one that a test of this config would leave, '' if it is."""
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
    return f"the result there differs in {', '.join(differ[:SHOWN])}" if differ else ""


def _terms(config: Config) -> dict[str, Any]:
    """Return what decides the result of a test, as plain data."""
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
    """Return the same of a result."""
    keys = ("protocol", "protocol_settings", "episodes", "seeds", "shot", "replayed", "fold_mismatch")
    return {
        **_deciding(result["config"]),
        **{key: result[key] for key in keys},
        "checkpoint": _place(result["checkpoint"]),
    }


def _deciding(merged: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a merged config that can change a score."""
    data = {k: v for k, v in merged.get("data", {}).items() if k not in NO_MATTER}
    run = {k: v for k, v in merged.get("run", {}).items() if k in ("precision", "seed")}
    return {"data": data, "model": merged.get("model", {}), "run": run}


def _place(checkpoint: str) -> str:
    """Return a checkpoint's absolute path, or the words that stand for none."""
    return checkpoint if checkpoint in (TRAINING_FREE, UNTRAINED) else str(Path(checkpoint).resolve())


if __name__ == "__main__":
    cli.main(main)
