"""``reproduce.sh``: it runs missing trainings and tests, skips finished ones, and prints the table."""

import csv
import inspect
import json
import math
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

from model.encoders.settings import EncoderSettings, build_encoder
from tests.helpers import spawned
from tests.helpers.narrow import NARROW
from tests.helpers.paths import REPOSITORY
from tests.report.conftest import result as drawn
from util.checkpoints import checkpoint
from util.checkpoints.run import BEST, LAST, METRICS, Run
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.data.mini import generate
from util.errors import EXIT_USER_ERROR, UserError
from util.evaluate.calibration import FORMAT, Calibration, calibration_path, key_of
from util.evaluate.test import Test, own_config
from util.evaluate.testing import test as score
from util.evaluate.verify import DIFFERS, checks_of
from util.launch import experiments, reproduce
from util.launch.experiments import Experiment, reason_to_test
from util.launch.launch import claim
from util.launch.plan import Estimate, hours_in_words, workload
from util.launch.reproduce import main, memory_problem
from util.launch.tasks import StageTask, stage_in
from util.report import run_folder
from util.report.run_folder import ENVIRONMENT
from util.report.schema import RESULT, read_result
from util.train.benchmark_pass import BenchmarkPass


def as_options(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys):
    """Return a function that runs the command with words, and gives its exit code and all that it says."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["reproduce", *words])
        try:
            code = main()
        except UserError as error:
            return EXIT_USER_ERROR, str(error)
        return code, "".join(capsys.readouterr())

    return run


def experiments_of(folder: Path, *overrides: str, **words: object) -> tuple[list[Experiment], list[str]]:
    common = {"dataset": "mini", "gpus": 0, "folds": "0", "seeds": (None,), "shot": (1,), "protocol": None}
    return reproduce.experiments_of(Namespace(**common | words, overrides=[f"run.folder={folder}", *overrides]))


@pytest.mark.process
def test_a_table_of_two_folds_and_again_with_nothing_to_do(mini_root: Path, tmp_path: Path):
    settings = {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    settings |= {"data.size": 33, "data.min_pixels": 100, "model.encoder.weights": "null", "test.pictures": 0}
    settings |= {"protocols.bam.episodes": 4, "protocols.bam.seeds": [0]}
    words = ["mini", "resnet10", "0", "--shot", "1", "--protocol", "bam", *as_options(settings)]

    def reproduced(*more: str) -> str:
        return spawned.run("-m", "util.launch.reproduce", *words, *more, before=spawned.fork_scripts).stdout

    both, kept = reproduced("--folds", "0,1", "--models", "prototype"), tmp_path / "runs/mini_resnet10_table"
    assert f"is in {kept}.log" in both and (both + kept.with_suffix(".log").read_text()).count("test by bam ==") == 2
    assert "training ==" not in both and "another command" not in both
    (header, row) = list(csv.reader(kept.with_suffix(".csv").open()))
    cells = dict(zip(header, row, strict=True))
    assert cells["method"] == "prototype baseline ResNet-10" and "1-shot mean" not in cells
    for fold in (0, 1):
        result = json.loads((tmp_path / f"runs/mini_split{fold}_prototype_resnet10/test/bam/{RESULT}").read_text())
        assert cells[f"1-shot fold {fold}"] == f"{result['mean']['final']['miou']:.1f}" and result["fold"] == fold
    assert kept.with_suffix(".tex").exists() and kept.with_suffix(".md").read_text() in both
    again = reproduced("--folds", "1", "--models", "prototype,ssp", "--set", "test.checkpoint=none")
    assert again.count(": done ==") == 1 and again.count("test by bam ==") == 1
    assert again.count("A: prototype, B: ssp, fold 1") == 1 and "SSP ResNet-10" in again


@pytest.mark.parametrize(("shots", "trained"), [((1, 5), [1, 1]), ((5,), [5])])
def test_five_shots_are_tested_by_the_training_of_one_whichever_comes_first(shots, trained, tmp_path: Path):
    """Methods whose weights serve any number of shots train once; with 5 shots alone, for 5."""
    words = {"net": "lite0", "models": "pocket", "shot": shots}
    found, refused = experiments_of(tmp_path, **words)
    assert [part.source.data.shot for part in found] == trained and not refused
    _, refused = experiments_of(tmp_path, "test.adapt=encoder", **words)  # else a test would say so, after its training
    assert any("test.adapt" in line for line in refused) == (1 in shots)


def test_training_seeds_have_runs_of_their_own_and_what_learns_nothing_has_one(tmp_path: Path):
    first, second, third = experiments_of(tmp_path, net="resnet10", models="bam,prototype", seeds=(1, 2))[0]
    assert [part.config.run.seed for part in (first, second)] == [1, 2] and third.method == "prototype"
    assert second.config.run.name == second.source.run.name == "mini_split0_bam_resnet10_seed2"
    assert second.config.run.base_folder == "runs/mini_split0_resnet10_seed2/base"
    assert "run.seed=2" in second.source.given


@pytest.mark.process
def test_all_that_stops_a_part_is_said_before_anything_is_done(tmp_path: Path):
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
    config = own_config(read_config(mini_yaml()), "bam", 1)
    meta, result = Run(config).folder("meta"), Run(config).folder("test") / "bam" / RESULT
    meta.mkdir(parents=True)
    result.parent.mkdir(parents=True)
    (meta / METRICS).write_text('{"finished": true}')
    (meta / BEST).write_bytes(b"weights")
    images = Test(config).images
    lists = {"list": images.digest, "content": images.files_digest}
    result.write_text(json.dumps(drawn(config=to_dict(config), checkpoint=str(meta / BEST), **lists)))
    return config, meta, result


def test_what_is_done_is_recognised_and_a_result_of_other_settings_is_not(done_run):
    config, meta, result = done_run
    part = Experiment("symnet", config, config)
    assert part.result == result and part.learns and not part.trains and not reason_to_test(config, result)
    overrides = ["data.min_pixels=7", "data.exclude_novel=false", "protocols.bam.smooth=true", "test.seeds=[3]"]
    for override in (*overrides, "test.episodes=20", "run.precision=bf16"):
        key = override.partition("=")[0].removeprefix("protocols.bam.")
        assert key in reason_to_test(own_config(read_config(config.path, [override]), "bam", 1), result)
    for text in ('{"finished": false}', '{"fini'):
        (meta / METRICS).write_text(text)
        assert part.trains
    result.write_text("{")
    assert reason_to_test(config, result) and reason_to_test(config, result.parent / "missing.json")
    result.write_text(json.dumps(drawn(config=to_dict(config), checkpoint="other.pth")))
    assert "other.pth" in reason_to_test(config, result)


def test_a_finished_result_of_other_code_says_so(done_run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    config, _, result = done_run
    method, shared, other = (tmp_path / "code/model" / name for name in ("symnet/a.py", "common/b.py", "ssp/c.py"))

    def git(*words: str) -> str:
        words = ("-c", "user.name=a", "-c", "user.email=a@b.org", *words)
        return subprocess.run(["git", *words], cwd=tmp_path / "code", capture_output=True, text=True, check=True).stdout

    for file in (method, shared, other):
        file.parent.mkdir(parents=True)
        file.write_text("1\n")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    commit = git("rev-parse", "HEAD").strip()
    monkeypatch.setattr(run_folder, "REPOSITORY", tmp_path / "code")
    monkeypatch.setattr(run_folder, "_git", inspect.unwrap(run_folder._git))  # which the tests ask once a process
    content = json.loads(result.read_text())
    part = Experiment("symnet", config, config)
    for known in ("unknown", "0" * 40, "--output=x", commit):
        result.write_text(json.dumps(content | {"environment": {"commit": known}}))
        assert part.other_code() == ""
    other.write_text("another\n")
    assert part.other_code() == ""  # of another method
    method.write_text("another\n")
    assert part.run(0) == 0  # no refusal, and nothing is tested again
    said = f"done == (its result is of other code: model/symnet/a.py has changed since {commit[:8]})"
    assert said in capsys.readouterr().out
    assert part.tasks(0)[-1].state.startswith("finished (its result is of other code")


def photos_of_test(config: Config) -> list[str]:
    """Return the names of the photos of a test's list."""
    images = Test(config).images
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
    path = mini_yaml("mini_split0_prototype_resnet10.yaml", model={"encoder": {"backbone": NARROW}})
    config = read_config(path, [f"data.root={root}", f"model.encoder.weights={encoder}", "test.episodes=4"])
    config = own_config(config, "presence", 1)
    path = Test(config).folder / RESULT
    score(config, ["presence"])
    assert reason_to_test(config, path) == ""
    draw(2)
    assert "training-free holds" in reason_to_test(config, path)
    score(config, ["presence"])
    key, seen = key_of(config, read_result(path)["weights"]), [1.0] + [0.0] * 5
    made = Calibration(FORMAT, "x", key, "x", 1.0, 0.0, seen, 0.0, 0.5)
    calibration_path(config, "training-free").write_text(yaml.safe_dump(asdict(made), sort_keys=False))
    assert "calibration" in reason_to_test(config, path)
    score(config, ["presence"])
    assert reason_to_test(config, path) == ""
    for file in (next((root / "JPEGImages").glob(f"{name}.jpg")) for name in photos_of_test(config)[:2]):
        before, content = file.stat(), file.read_bytes()
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])  # of the same size and time
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert "other photos or masks" in reason_to_test(config, path)
        assert checks_of(path, read_result(path))["list"] == (DIFFERS, "has other photos or masks today")
        file.write_bytes(content)  # the content of before, of another time
        assert reason_to_test(config, path) == ""
    generate(shutil.rmtree(root) or root, 12, 16, 64, 9)
    assert "its list is" in reason_to_test(config, path)


def test_a_mixture_that_no_table_prints_is_refused_first(typed):
    """SSP's folds of COCO are contiguous, Sym-Net's interleaved; an unknown paper would stop the table as well."""
    words = ["coco", "resnet50", "0", "--models", "symnet,ssp", "--folds", "0", "--shot", "1", "--published", "BAN"]
    code, said = typed(*words)
    assert code and "differ in protocol (symnet (interleaved folds); symnet (contiguous folds))" in said
    code, said = typed(*words, "--set", "data.fold_rule=contiguous")
    assert code and "differ in" not in said and "--published ban: no such paper" in said


@pytest.mark.process
def test_a_part_of_another_job_is_left_to_it_while_that_lives(done_run, typed, monkeypatch: pytest.MonkeyPatch):
    config, _, result = done_run
    result.unlink()
    part, words = Experiment("symnet", config, config), ["mini", "resnet10", "0"]
    monkeypatch.setattr(reproduce, "experiments_of", lambda _: ([part], []))
    monkeypatch.setattr(Experiment, "tasks", lambda *_: [])
    monkeypatch.setattr(reproduce, "needs_of", lambda _: [])
    monkeypatch.setattr(experiments, "run_script", lambda *_: 3)
    here, there = os.pipe()
    if not (other := os.fork()):  # another process: a process does not lock itself out
        with claim(result.parent):
            os.write(there, b"claimed")
            signal.pause()
    assert os.read(here, 9)
    code, said = typed(*words)
    assert code == 0 and f"{result.parent}: another command" in said and "left to other jobs: tiny" in said
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert typed(*words)[0] == 3


def test_a_test_takes_the_settings_of_its_weights(done_run, tmp_path: Path):
    """Its options, and data and model of its file then; the command line, the fold and other sections stay."""
    config, meta = read_config(done_run[0].path), done_run[1]
    options = ["data.size=41", "data.workers=1", "run.device=cuda"]
    more = ["data.min_pixels=7", "meta_stage.batch=3", "data.root=elsewhere", "test.batch=7"]
    then = read_config(config.path, [*options, *more])
    content = {"stage": "meta", "config": to_dict(then), "schedule": {"steps": 1}, "progress": {"step": 1}}
    for name in (BEST, LAST):
        checkpoint.save(meta / name, content)
    (meta / ENVIRONMENT).write_text(json.dumps({"options": options}))

    def tested(*given: str) -> Config:
        return Run(read_config(config.path, [*given])).with_checkpoint_config().config

    for given in ((), ("test.checkpoint=last",)):
        now = tested(*given)
        assert (now.data.size, now.data.workers, now.data.min_pixels) == (41, 1, 7)
        assert (now.data.root, now.run.device, now.test.batch) == (config.data.root, "cpu", config.test.batch)
        assert now.meta_stage == config.meta_stage  # a result names what differs
    assert tested("data.size=49").data.size == 49
    assert tested("test.checkpoint=none").data.size == tested("run.name=other").data.size == 33
    other = f"test.checkpoint={shutil.copy(meta / BEST, tmp_path / 'other.pth')}"  # weights of any run have theirs
    assert (tested(other).data.size, tested(other).data.min_pixels, tested(other).data.fold) == (41, 7, 0)
    assert tested(other, "data.size=49").data.size == 49 and tested(other, "data.fold=1").data.fold == 1
    assert tested(other, "test.trained_on=mini").data.size == 33  # but of the model's, on another data set
    assert tested("data.fold=1").data.fold == 1
    assert "data.size = 41, now 33" in stage_in(meta, Run(config), "meta", 0).refusal
    checkpoint.save(meta / BEST, {**content, "config": to_dict(read_config(config.path, ["data.fold=1"]))})
    assert tested().data.fold == 0  # which load_weights refuses


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


def test_a_dry_run_says_all_that_stops_it_and_writes_nothing(mini_root: Path, tmp_path: Path, typed):
    """On a machine without eight GPUs; a base stage is there, begun with other settings."""
    base = tmp_path / "runs/mini_split0_resnet10/base"
    schedule, progress = {"steps": 40}, {"step": 10}
    config = to_dict(read_config(REPOSITORY / "config/mini/mini_split0_resnet10.yaml", ["base_stage.epochs=9"]))
    checkpoint.save(base / LAST, {"stage": "base", "config": config, "schedule": schedule, "progress": progress})
    before = sorted((tmp_path / "runs").rglob("*"))
    settings = {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    settings |= {"data.size": 33, "data.min_pixels": 100, "data.text": "names", "test.seeds": [0]}
    words = ["mini", "resnet10", "8", "--folds", "0", "--shot", "1", "--models", "symnet,sspp,ssp"]
    words += [*as_options(settings), "--dry-run", "--device-speed"]
    assert "out of range" in typed(*words, "0.01")[1]  # below the least speed
    code, said = typed(*words, "0.1")
    assert code == EXIT_USER_ERROR and sorted((tmp_path / "runs").rglob("*")) == before
    rows = [
        [cell.strip() for cell in line.split("|")[2:8]] for line in said.splitlines() if line.startswith("| config/")
    ]
    (whole,) = (line for line in said.splitlines() if line.startswith("total:"))
    assert float(whole.split()[2]) == pytest.approx(sum(float(hours) for *_, hours in rows), abs=0.11)
    of_methods = [line.split(": ")[1].split()[0] for line in said.splitlines() if line.startswith(("Sym-Net:", "SSP:"))]
    assert len(of_methods) == 2 and float(whole.split()[2]) == pytest.approx(sum(map(float, of_methods)), abs=0.11)
    assert all(float(hours) > 0 for *_, hours in rows[:3])
    assert [row[:5] for row in rows[:3]] == [
        ["base", "step 10 of 40", "16", "81", "2 x 8"],
        ["meta", "not begun", "16", "33", "1 x 8"],
        ["test by symnet", "no result yet", "1 x 200", "33", "8 x 8"],
    ]
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    for words in ("base_stage.epochs = 9, now 8", "'ssp'", "data.text = names"):
        assert any(words in line for line in errors)


def test_hours_of_methods_and_why_some_are_not_known() -> None:
    def stage(method: str, name: str, hours: float, unknown: str = "") -> Estimate:
        return Estimate(method, ["config", name], hours, unknown, 0, 0, "", True)

    known = [stage("SSP", "meta", 60.25), stage("SSP", "test by bam", 6.5)]
    assert hours_in_words(known, 3220.0) == ["total: about 66.8 hours", "speed: 3220 images a second"]
    data = "needs the data"
    several = [*known, stage("HSNet", "meta", math.nan, data), stage("HSNet", "test by bam", 0.5)]
    *of_methods, total, _ = hours_in_words(several, 3220.0)
    assert of_methods == ["SSP: 66.8 hours", f"HSNet: 0.5 hours, plus stages of unknown length: meta ({data})"]
    assert total == f"total: about 67.2 hours, plus stages of unknown length: HSNet ({data})"


def test_a_step_that_does_not_fit_into_memory_is_refused(mini_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(mini_yaml("mini_split0_ssp_resnet10.yaml"), ["meta_stage.batch=4", "meta_stage.accumulate=2"])
    case = workload(StageTask(config, "meta", 1, Path())).case
    assert case.batch == 2 and memory_problem(case, "cpu") == ""

    def full(*_: object) -> None:
        raise MemoryError("1 GiB")

    monkeypatch.setattr(BenchmarkPass, "run", full)
    assert "meta_stage.batch" in memory_problem(case, "cpu")
