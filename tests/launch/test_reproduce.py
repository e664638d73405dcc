"""``reproduce.sh``: it runs missing trainings and tests, skips finished ones, and prints the table."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
import yaml

from model.code import code_of
from model.encoders.settings import EncoderSettings, build_encoder
from model.registry import class_of
from tests.helpers import spawned
from tests.helpers.narrow import NARROW
from tests.helpers.paths import REPOSITORY
from tests.helpers.scored import score
from tests.launch.conftest import as_options
from tests.report.conftest import result as drawn
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.data.mini import generate
from util.evaluate.calibration import FORMAT, Calibration, calibration_path, key_of
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import RESULT, read_result
from util.files.errors import EXIT_USER_ERROR
from util.launch import experiments, reproduce
from util.launch.experiments import Experiment, reason_to_test
from util.report.verify import DIFFERS, checks_of
from util.run import checkpoint
from util.run.folder import ENVIRONMENT, claim
from util.run.run import BEST, LAST, METRICS, Run
from util.train.state import stage_of


def experiments_of(folder: Path, *overrides: str, **words: object) -> tuple[list[Experiment], list[str]]:
    common = {"dataset": "mini", "gpus": 0, "folds": "0", "seeds": (None,), "shot": (1,), "protocol": None}
    return reproduce.experiments_of(Namespace(**common | words, overrides=[f"run.folder={folder}", *overrides]))


@pytest.mark.process
def test_a_table_of_two_folds_and_again_with_nothing_to_do(mini_root: Path, tmp_path: Path):
    settings = {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    settings |= {
        "data.size": 33,
        "data.min_pixels": 100,
        "model.encoder.weights": "null",
    }
    settings |= {"protocols.bam.episodes": 4, "protocols.bam.seeds": [0]}
    words = ["mini", "resnet10", "0", "--shot", "1", "--protocol", "bam", *as_options(settings)]

    def reproduced(*more: str) -> str:
        return spawned.run("-m", "util.launch.reproduce", *words, *more, before=spawned.fork_scripts).stdout

    output = reproduced("--folds", "0,1", "--models", "prototype")
    kept = tmp_path / "runs/mini_resnet10_table"
    assert output.count("test by bam ==") == 2
    assert "training ==" not in output and "another command" not in output
    check_table(kept, tmp_path / "runs")
    assert kept.with_suffix(".tex").exists()
    assert kept.with_suffix(".md").read_text() in output

    again = reproduced("--folds", "1", "--models", "prototype,ssp", "--set", "test.checkpoint=none")
    assert [again.count(text) for text in (": done ==", "test by bam ==")] == [1, 1]
    assert "SSP ResNet-10" in again


def check_table(kept: Path, runs: Path) -> None:
    """Assert that a kept table of two folds holds the scores of their results, and no mean, as others are missing."""
    (header, row) = list(csv.reader(kept.with_suffix(".csv").open()))
    cells = dict(zip(header, row, strict=True))
    assert cells["method"] == "prototype baseline ResNet-10"
    assert "1-shot mean" not in cells
    for fold in (0, 1):
        result = json.loads((runs / f"mini_split{fold}_prototype_resnet10/test/bam/{RESULT}").read_text())
        assert result["fold"] == fold
        assert cells[f"1-shot fold {fold}"] == f"{result['mean']['final']['miou']:.1f}"


@pytest.mark.parametrize(("shots", "trained"), [((1, 5), [1, 1]), ((5,), [5])])
def test_five_shots_are_tested_by_the_training_of_one_whichever_comes_first(shots, trained, tmp_path: Path):
    """Methods whose weights serve any number of shots train once; with 5 shots alone, for 5."""
    words = {"net": "lite0", "models": "pocket", "shot": shots}
    accepted, refused = experiments_of(tmp_path, **words)
    assert [experiment.source.data.shot for experiment in accepted] == trained
    assert not refused


def test_training_seeds_have_runs_of_their_own_and_what_learns_nothing_has_one(tmp_path: Path):
    first, second, third = experiments_of(tmp_path, net="resnet10", models="bam,prototype", seeds=(1, 2))[0]
    assert (first.config.run.seed, second.config.run.seed) == (1, 2)
    assert third.method == "prototype"
    assert second.config.run.name == second.source.run.name == "mini_split0_bam_resnet10_seed2"
    assert second.config.run.base_folder == "runs/mini_split0_resnet10_seed2/base"
    assert "run.seed=2" in second.source.given


def test_a_file_has_a_run_for_each_fold(tmp_path: Path):
    """Of its own fold the run that train.sh makes of it; beside it methods by their names."""
    mine = tmp_path / "mine.yaml"
    bases = [f"{REPOSITORY}/config/{name}.yaml" for name in ("mini/mini", "model/bam", "encoder/resnet10")]
    mine.write_text(f"base: {bases}\ndata: {{fold: 1}}")
    words = {"net": "resnet10", "models": f"{mine},ssp", "folds": "0,1"}
    runs = [each.config.run for each in experiments_of(tmp_path, **words)[0]]
    assert [run.name for run in runs[:2]] == ["mine_split0", "mine"]
    assert [run.base_folder for run in runs[:2]] == [None, None]
    assert [run.name for run in runs[2:]] == ["mini_split0_ssp_resnet10", "mini_split1_ssp_resnet10"]
    _, refused = experiments_of(tmp_path, **words | {"net": "lite0"})
    assert refused == [f"{mine}: its encoder is resnet10; write resnet10 instead of lite0"]


@pytest.mark.process
def test_all_that_stops_an_experiment_is_said_before_anything_is_done(tmp_path: Path):
    """Data, vectors and the weights of both methods are missing, and a line names each once."""
    options = as_options({"data.root": tmp_path / "none", "run.folder": tmp_path / "runs"})
    words = ["sh", "reproduce.sh", "pascal", "resnet50", "0", "--models", "symnet,ssp", *options]
    place = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ended = subprocess.run(words, cwd=REPOSITORY, env=place, capture_output=True, text=True)
    assert ended.returncode == 2 and not list(tmp_path.iterdir())
    lines = [line.split()[:2] for line in ended.stderr.splitlines()]
    assert lines == [["error:", what] for what in ("data", "vectors", "weights")]
    assert " for Sym-Net on resnet50, SSP on resnet50: " in ended.stderr


@pytest.fixture
def done_run(mini_yaml, tmp_path: Path):
    """Return a config of a model that learns, its meta folder and its result, as a finished run leaves them."""
    config = Evaluation.of(read_config(mini_yaml()), "bam", 1).config
    meta, result = Run(config).folder("meta"), Run(config).folder("test") / "bam" / RESULT
    meta.mkdir(parents=True)
    result.parent.mkdir(parents=True)
    (meta / METRICS).write_text('{"finished": true}')
    (meta / BEST).write_bytes(b"weights")
    images = Evaluation.of(config).images
    lists = {"list": images.digest, "content": images.files_digest}
    result.write_text(json.dumps(drawn(config=to_dict(config), checkpoint=str(meta / BEST), **lists)))
    return config, meta, result


def test_what_is_done_is_recognised_and_a_result_of_other_settings_is_not(done_run):
    config, _, result = done_run
    experiment = Experiment("symnet", config, config)
    assert experiment.result == result
    assert reason_to_test(config, result) == ""
    overrides = ["data.min_pixels=7", "data.exclude_novel=false", "protocols.bam.smooth=true", "test.seeds=[3]"]
    for override in (*overrides, "test.episodes=20", "run.precision=bf16"):
        key = override.partition("=")[0].removeprefix("protocols.bam.")
        assert key in reason_to_test(Evaluation.of(read_config(config.source, [override]), "bam", 1).config, result)
    for mark, said in (("foreign", "other.pth"), ("", "")):  # the own weights may have lain elsewhere
        content = json.loads(result.read_text()) | {"checkpoint": "other.pth", "weights_mark": mark}
        result.write_text(json.dumps(content))
        reason = reason_to_test(config, result)
        assert said in reason and bool(said) == bool(reason)


def test_a_result_that_is_missing_or_damaged_is_not_done(done_run):
    config, _, result = done_run
    result.write_text("{")
    assert reason_to_test(config, result) == "the result there cannot be read"
    assert reason_to_test(config, result.parent / "missing.json") == "no result yet"


def test_a_training_is_done_once_its_metrics_say_so(done_run):
    config, meta, _ = done_run
    experiment = Experiment("symnet", config, config)
    assert experiment.learns and not experiment.trains
    for text in ('{"finished": false}', '{"fini'):
        (meta / METRICS).write_text(text)
        assert experiment.trains


def test_a_result_of_other_code_is_scored_again(done_run):
    config, _, result = done_run
    content = json.loads(result.read_text())
    today = code_of(class_of(config.model))
    for code in ({}, today):
        result.write_text(json.dumps(content | {"code": code}))
        assert not Experiment("symnet", config, config).reason
    result.write_text(json.dumps(content | {"code": today | {"model.symnet.steps": "0"}}))
    reason = Experiment("symnet", config, config).reason
    assert reason == "the result there is of other code of the method (model.symnet.steps)"
    assert checks_of(result, read_result(result))["code"][0] == DIFFERS


def photos_of_test(config: Config) -> list[str]:
    """Return the names of the photos of a test's list."""
    images = Evaluation.of(config).images
    return [images.index.names[row] for row in images.queries]


@pytest.mark.train
def test_a_result_of_other_weights_photos_or_calibration_is_not_done(mini_yaml, tmp_path: Path):
    """Names, times and settings are the same: the content decides."""
    root, encoder = tmp_path / "own", tmp_path / "encoder.pth"
    generate(root, 12, 16, 64)

    def draw(seed: int) -> None:
        torch.manual_seed(seed)
        network = build_encoder(EncoderSettings(backbone=NARROW, stem="plain", weights=None))
        torch.save(network.state_dict(), encoder)
        os.utime(encoder, (0, 0))

    draw(1)
    path = mini_yaml("prototype", model={"encoder": {"backbone": NARROW}})
    config = read_config(path, [f"data.root={root}", f"model.encoder.weights={encoder}", "test.episodes=4"])
    config = Evaluation.of(config, "presence", 1).config
    path = Evaluation.of(config).folder / RESULT
    score(config, ["presence"])
    assert reason_to_test(config, path) == ""
    draw(2)
    assert "other weights" in reason_to_test(config, path)
    score(config, ["presence"])
    key = key_of(config, read_result(path)["weights"])
    presence_weights = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    calibration = Calibration(FORMAT, "x", key, "x", 1.0, 0.0, presence_weights, 0.0, 0.5)
    calibration_path(config, "training-free").write_text(yaml.safe_dump(asdict(calibration), sort_keys=False))
    assert "calibration" in reason_to_test(config, path)
    score(config, ["presence"])
    assert reason_to_test(config, path) == ""
    for name in photos_of_test(config)[:2]:
        photo = root / f"JPEGImages/{name}.jpg"
        content = photo.read_bytes()
        change_silently(photo)
        assert "other photos or masks" in reason_to_test(config, path)
        outcome, said = checks_of(path, read_result(path))["list"]
        assert outcome == DIFFERS and "other photos or masks (" in said
        photo.write_bytes(content)  # the content of before, of another time
        assert reason_to_test(config, path) == ""
    shutil.rmtree(root)
    generate(root, 12, 16, 64, 9)
    assert "another list" in reason_to_test(config, path)


def change_silently(file: Path) -> None:
    """Change a bit of a file, whose size and time stay."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[-9] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.process
def test_an_experiment_of_another_job_is_left_to_it_while_that_lives(done_run, typed, monkeypatch: pytest.MonkeyPatch):
    config, _, result = done_run
    result.unlink()
    experiment = Experiment("symnet", config, config)
    words = ["mini", "resnet10", "0"]
    monkeypatch.setattr(reproduce, "experiments_of", lambda _: ([experiment], []))
    monkeypatch.setattr(Experiment, "tasks", lambda *_: [])
    monkeypatch.setattr(reproduce, "needs_of", lambda _: [])
    monkeypatch.setattr(experiments, "run_command", lambda *_: 3)
    here, there = os.pipe()
    other = os.fork()
    if other == 0:  # another process: a process does not lock itself out
        with claim(result.parent):
            os.write(there, b"claimed")
            signal.pause()
    assert os.read(here, 9)
    code, said = typed(*words)
    assert code == 0 and f"{result.parent}: another command" in said and "left to other jobs: tiny" in said
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert typed(*words)[0] == 3


@pytest.fixture
def tested(done_run):
    """Return a function that gives the config that a test takes, of a run whose training had other settings."""
    config, meta = read_config(done_run[0].source), done_run[1]
    options = ["data.size=41", "data.workers=1", "run.device=cuda"]  # of its command line
    more = ["data.min_pixels=7", "meta_stage.batch=3", "data.root=elsewhere", "test.batch=7"]  # of its file then
    save_checkpoints(meta, read_config(config.source, [*options, *more]))
    (meta / ENVIRONMENT).write_text(json.dumps({"options": options}))

    def take(*given: str) -> Config:
        run, _ = Run(read_config(config.source, [*given])).as_tested()
        return run.config

    return take


def save_checkpoints(meta: Path, config: Config) -> None:
    """Write the checkpoints of a meta stage that was trained by a config."""
    content = {"stage": "meta", "config": to_dict(config), "weights": {}}
    content |= {"schedule": {"steps": 1}, "progress": {"step": 1}}
    checkpoint.save(meta / BEST, content)
    checkpoint.save(meta / LAST, content)


@pytest.mark.parametrize("given", [(), ("test.checkpoint=last",)])
def test_a_test_takes_the_settings_of_its_weights(given: tuple[str, ...], done_run, tested):
    """Its options, and data and model of its file then; other sections stay."""
    config = read_config(done_run[0].source)
    now = tested(*given)
    assert (now.data.size, now.data.workers, now.data.min_pixels) == (41, 1, 7)
    assert (now.data.root, now.run.device, now.test.batch) == (config.data.root, "cpu", config.test.batch)
    assert now.meta_stage == config.meta_stage  # a result names what differs


def test_the_command_line_and_the_fold_of_a_test_stay(done_run, tested):
    config, meta, _ = done_run
    assert tested("data.size=49").data.size == 49
    assert tested("test.checkpoint=none").data.size == tested("run.name=other").data.size == 33
    assert tested("data.fold=1").data.fold == 1
    run = Run(read_config(config.source))
    assert "data.size = 41, now 33" in stage_of(run, "meta", 1).refusal
    save_checkpoints(meta, read_config(config.source, ["data.fold=1"]))
    assert tested().data.fold == 0  # which load_weights refuses


def test_weights_of_any_run_have_the_settings_of_their_own(done_run, tested, tmp_path: Path):
    other = f"test.checkpoint={shutil.copy(done_run[1] / BEST, tmp_path / 'other.pth')}"
    data = tested(other).data
    assert (data.size, data.min_pixels, data.fold) == (41, 7, 0)
    assert tested(other, "data.size=49").data.size == 49
    assert tested(other, "data.fold=1").data.fold == 1
    assert tested(other, "test.trained_on=voc").data.size == 33  # but of the model's, on another data set


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["pascal", "resnet50", "\u00b2"], "gpus"),
        (["pascal", "resnet50", "0", "--protocol", "bamm"], "'bam'"),
        (["pascal", "resnet50", "0", "--folds", "0,4"], "4"),
        (["crossdomain", "resnet50", "0", "--models", "hsnet", "--folds", "0"], "--folds"),
        (["pascal", "resnet50", "0", "--models", "symnet,sspp"], "'ssp'"),
    ],
)
def test_bad_words_are_refused(words: list[str], place: str, typed):
    code, said = typed(*words)
    assert code == EXIT_USER_ERROR and place in said
