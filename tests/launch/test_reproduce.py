"""``reproduce.sh``: it runs missing trainings and tests, skips finished ones, and prints the table."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests import spawned
from tests.paths import REPOSITORY
from tests.report.conftest import result as drawn
from util import cli
from util.config.read import read_config, to_dict
from util.evaluate.jobs import own_config
from util.launch.reproduce import learns, main, trained, undone
from util.report.schema import RESULT
from util.report.scores import over_seeds
from util.run.folders import BEST, METRICS, run_folder


def reproduce(*words: str, **environment: str) -> subprocess.CompletedProcess:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["sh", "reproduce.sh", *words],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.process
def test_a_table_of_two_folds_and_again_with_nothing_to_do(mini_root: Path, tmp_path: Path):
    settings = {
        "data.root": mini_root,
        "data.cache": tmp_path / "cache",
        "run.folder": tmp_path / "runs",
        "data.size": 33,
        "data.min_pixels": 100,
        "model.encoder.weights": "null",
        "protocols.bam.episodes": 4,
        "protocols.bam.seeds": [0],
        "test.pictures": 0,
    }
    options = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    words = ["mini", "resnet10", "0", "--shot", "1", "--protocol", "bam", *options]
    first = reproduce(*words, "--folds", "0", MODEL="prototype")
    assert first.returncode == 0, first.stderr[-2000:]
    assert first.stdout.count("test by bam ==") == 1 and "training ==" not in first.stdout
    module, forked = ("-m", "util.launch.reproduce"), {"before": spawned.fork_scripts}
    both = spawned.run(*module, *words, "--folds", "0,1", MODEL="prototype", **forked)
    assert both.stdout.count(": done ==") == 1 and both.stdout.count("test by bam ==") == 1
    kept = tmp_path / "runs/mini_resnet10_table"
    (header, row) = list(csv.reader(kept.with_suffix(".csv").open()))
    cells = dict(zip(header, row, strict=True))
    assert cells["method"] == "prototype baseline ResNet-10" and cells["1-shot mean"] == "-"
    for fold in (0, 1):
        result = json.loads((tmp_path / f"runs/mini_split{fold}_prototype_resnet10/test/bam/{RESULT}").read_text())
        assert cells[f"1-shot fold {fold}"] == f"{result['mean']['final']['miou']:.1f}" and result["fold"] == fold
    assert kept.with_suffix(".tex").exists() and kept.with_suffix(".md").read_text() in both.stdout
    words += ["--folds", "1", "--models", "prototype,ssp", "--set", "test.checkpoint=none"]
    again = spawned.run(*module, *words, **forked)
    assert again.stdout.count(": done ==") == 1 and again.stdout.count("test by bam ==") == 1
    assert again.stdout.count("ssp and prototype, fold 1") == 1 and "SSP ResNet-10" in again.stdout


@pytest.mark.process
def test_all_that_stops_a_part_is_said_before_anything_is_done(tmp_path: Path):
    """Data, vectors and weights of both methods are missing, and the lines name each once."""
    words = ["--models", "symnet,ssp", "--set", f"data.root={tmp_path}/none", "--set", f"run.folder={tmp_path}/runs"]
    ended = reproduce("pascal", "resnet50", "0", *words)
    assert ended.returncode == 2 and not list(tmp_path.iterdir())
    lines = ended.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert [line.split()[1] for line in lines] == ["data", "vectors", "weights", "weights"]


@pytest.fixture
def done_run(mini_yaml, tmp_path: Path):
    """Return a config of a model that learns, its meta folder and its result, as a finished run leaves them."""
    config = own_config(read_config(mini_yaml()), "bam", 1)
    meta, result = run_folder(config, "meta"), run_folder(config, "test") / "bam" / RESULT
    meta.mkdir(parents=True)
    result.parent.mkdir(parents=True)
    (meta / METRICS).write_text('{"finished": true}')
    (meta / BEST).write_bytes(b"weights")
    entry = config.protocols["bam"]
    facts = {"config": to_dict(config), "protocol_settings": asdict(entry), "checkpoint": str(meta / BEST)}
    per_seed = [{"final": {"miou": 1.0}}] * len(entry.seeds)
    facts |= {"per_seed": per_seed, **over_seeds(per_seed), "episode_digests": ["cd"] * len(entry.seeds)}
    result.write_text(json.dumps(drawn(**facts, episodes=entry.episodes, seeds=entry.seeds)))
    return config, meta, result


def test_what_is_done_is_recognised(done_run):
    config, meta, result = done_run
    assert learns(config) and trained(config) and not undone(config, result)
    (meta / METRICS).write_text('{"finished": false}')
    assert not trained(config)
    (meta / METRICS).write_text('{"fini')
    assert not trained(config)


def test_a_result_of_older_weights_or_a_quick_look_is_not_done(done_run):
    config, meta, result = done_run
    later = time.time() + 60
    os.utime(meta / BEST, (later, later))
    assert "older than its weights" in undone(config, result)
    os.utime(meta / BEST, (1, 1))
    assert not undone(config, result)
    result.write_text(json.dumps(json.loads(result.read_text()) | {"episodes": 20}))
    assert "differs in episodes" in undone(config, result)
    result.write_text("{")
    assert undone(config, result) and undone(config, result.parent / "missing.json")


@pytest.mark.parametrize(
    ("override", "what"),
    [
        ("data.min_pixels=7", "data.min_pixels"),
        ("data.exclude_novel=false", "data.exclude_novel"),
        ("protocols.bam.smooth=true", "protocol_settings.smooth"),
        ("protocols.bam.episodes=5", "protocol_settings.episodes"),
        ("test.seeds=[3]", "seeds"),
        ("test.checkpoint=last", "checkpoint"),
        ("test.checkpoint=none", "checkpoint"),
        ("run.precision=bf16", "run.precision"),
    ],
)
def test_a_result_of_other_settings_is_not_done(done_run, override: str, what: str):
    config, _, result = done_run
    assert what in undone(own_config(read_config(config.path, [override]), "bam", 1), result)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["pascall", "resnet50", "0"], "did you mean 'pascal'"),
        (["pascal", "resnet51", "0"], "did you mean"),
        (["pascal", "resnet50", "two"], "'two' is not a whole number"),
        (["pascal", "resnet50", "\u00b2"], "'\u00b2' is not a whole number"),
        (["pascal", "resnet50", "0", "--protocol", "bamm"], "did you mean 'bam'"),
        (["pascal", "resnet50", "0", "--folds", "0,4"], "there is no fold 4"),
        (["pascal", "resnet50", "0", "--set", "data.siz=3"], "did you mean 'size'"),
        (["pascal", "resnet50", "0", "--models", "symnet,sspp"], "did you mean 'ssp'"),
        (["pascal", "resnet50", "0", "--tables"], "unrecognized arguments: --tables"),
    ],
)
def test_bad_words_are_one_line(words: list[str], part: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reproduce", *words])
    with pytest.raises(SystemExit) as caught:
        cli.main(main)
    errors = capsys.readouterr().err
    assert caught.value.code == 2 and errors.startswith("error: ") and errors.count("\n") == 1, errors
    assert part in errors
