"""``reproduce.sh``: it runs missing trainings and tests, skips finished ones, and prints the table."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
from argparse import Namespace
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml

from model.encoders.settings import EncoderSettings, build_encoder
from tests import spawned
from tests.narrow import NARROW
from tests.paths import REPOSITORY
from tests.report.conftest import result as drawn
from util.checkpoints import checkpoint
from util.checkpoints.run import BEST, LAST, METRICS, Run
from util.config.compose import config_path
from util.config.read import read_config, to_dict
from util.config.settings import Config
from util.data.mini import generate
from util.errors import EXIT_USER_ERROR, UserError
from util.evaluate.calibration import FORMAT, Calibration, calibration_path, key_of
from util.evaluate.jobs import own_config, result_folder
from util.evaluate.testing import test as score
from util.launch import parts, reproduce
from util.launch.launch import claim
from util.launch.parts import Part, reason_to_test
from util.launch.plan import Case, described
from util.launch.reproduce import main, tried
from util.launch.tasks import Task, stage_in
from util.report.run_folder import ENVIRONMENT
from util.report.schema import RESULT, read_result
from util.run.context import make_run_context
from util.run.data import images_for_protocol
from util.train.optim import StepSchedule
from util.train.stages import train_meta


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
    words = {
        "dataset": "mini",
        "net": "lite0",
        "gpus": 0,
        "models": "pocket",
        "shot": shots,
        "folds": "0",
        "seeds": (None,),
    }
    found, refused = reproduce.parts_of(Namespace(**words, protocol=None, overrides=[f"run.folder={tmp_path}"]))
    assert [part.source.data.shot for part in found] == trained and not refused
    asked = {"protocol": None, "overrides": ["test.adapt=encoder"]}
    _, refused = reproduce.parts_of(Namespace(**words, **asked))  # else a test would say so, after its training
    assert any("test.adapt" in line for line in refused) == (1 in shots)


@pytest.mark.process
def test_all_that_stops_a_part_is_said_before_anything_is_done(tmp_path: Path):
    """Data, vectors and the weights of both methods are missing, and a line names each once."""
    words = ["--models", "symnet,ssp", "--set", f"data.root={tmp_path}/none", "--set", f"run.folder={tmp_path}/runs"]
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    ended = subprocess.run(
        ["sh", "reproduce.sh", "pascal", "resnet50", "0", *words],
        cwd=REPOSITORY,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2 and not list(tmp_path.iterdir())
    lines = ended.stderr.splitlines()
    assert all(line.startswith("error: ") for line in lines)
    assert [line.split()[1] for line in lines] == ["data", "vectors", "weights"]


@pytest.fixture
def done_run(mini_yaml, tmp_path: Path):
    """Return a config of a model that learns, its meta folder and its result, as a finished run leaves them."""
    config = own_config(read_config(mini_yaml()), "bam", 1)
    meta, result = Run(config).folder("meta"), Run(config).folder("test") / "bam" / RESULT
    meta.mkdir(parents=True)
    result.parent.mkdir(parents=True)
    (meta / METRICS).write_text('{"finished": true}')
    (meta / BEST).write_bytes(b"weights")
    images = images_for_protocol(make_run_context(config), False, config.protocols["bam"], False)
    lists = {"list": images.digest, "photos": images.files_digest}
    result.write_text(json.dumps(drawn(config=to_dict(config), checkpoint=str(meta / BEST), **lists)))
    return config, meta, result


def test_what_is_done_is_recognised(done_run):
    config, meta, result = done_run
    part = Part("symnet", config, config)
    assert part.result == result and part.learns and not part.trains and not reason_to_test(config, result)
    for text in ('{"finished": false}', '{"fini'):
        (meta / METRICS).write_text(text)
        assert part.trains
    result.write_text("{")
    assert reason_to_test(config, result) and reason_to_test(config, result.parent / "missing.json")
    result.write_text(json.dumps(drawn(config=to_dict(config), checkpoint="other.pth")))
    assert "other.pth" in reason_to_test(config, result)


@pytest.mark.train
def test_a_result_of_other_weights_photos_or_calibration_is_not_done(mini_yaml, tmp_path: Path):
    """Names, times and settings are the same: the content decides."""
    names = {"data.root": tmp_path / "own", "model.encoder.weights": tmp_path / "encoder.pth", "test.episodes": 4}
    generate(tmp_path / "own", 12, 16, 64)

    def draw(seed: int) -> None:
        torch.manual_seed(seed)
        encoder = build_encoder(EncoderSettings(backbone=NARROW, stem="plain", weights=None))
        torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
        os.utime(tmp_path / "encoder.pth", (0, 0))

    draw(1)
    overrides = [f"{key}={value}" for key, value in names.items()]
    config = read_config(
        mini_yaml("mini_split0_prototype_resnet10.yaml", model={"encoder": {"backbone": NARROW}}), overrides
    )
    config = own_config(config, "presence", 1)
    path = result_folder(config, "presence") / RESULT
    score(config, ["presence"])
    assert reason_to_test(config, path) == ""
    draw(2)
    assert "training-free holds" in reason_to_test(config, path)
    score(config, ["presence"])
    made = Calibration(
        FORMAT, "x", key_of(config, read_result(path)["weights"]), "x", 1.0, 0.0, [1.0] + [0.0] * 5, 0.0, 0.5
    )
    calibration_path(config, "training-free").write_text(yaml.safe_dump(asdict(made), sort_keys=False))
    assert "calibration" in reason_to_test(config, path)
    score(config, ["presence"])
    assert reason_to_test(config, path) == ""
    for image in (tmp_path / "own/JPEGImages").iterdir():  # as before, but for a comment
        image.write_bytes(image.read_bytes() + b" ")
    assert "other sizes" in reason_to_test(config, path)
    shutil.rmtree(tmp_path / "own")
    generate(tmp_path / "own", 12, 16, 64, 9)
    assert "its list is" in reason_to_test(config, path)


@pytest.mark.train
def test_a_finished_training_on_other_photos_is_refused(mini_yaml, tmp_path: Path):
    stage = {"epochs": 1, "epoch_length": 4, "batch": 4, "validate_every": 0}
    generate(tmp_path / "own", 24, 16, 64)
    encoder = build_encoder(EncoderSettings(backbone=NARROW, stem="plain", weights=None))
    torch.save(encoder.state_dict(), tmp_path / "encoder.pth")
    model = {"encoder": {"backbone": NARROW, "stem": "plain", "weights": str(tmp_path / "encoder.pth")}}
    path = mini_yaml("mini_split0_ssp_resnet10.yaml", model=model, meta_stage=stage)
    config = read_config(path, [f"data.root={tmp_path}/own"])
    assert train_meta(config, resume=False, overwrite=False) == 0
    folder = Run(config).folder("meta")
    assert stage_in(folder, Run(config), "meta", 0).refusal == ""
    assert checkpoint.read(folder / BEST)["finished"]
    torch.save({n: t + 1 for n, t in torch.load(tmp_path / "encoder.pth").items()}, tmp_path / "encoder.pth")
    assert "other initial weights" in stage_in(folder, Run(config), "meta", 0).refusal
    shutil.rmtree(tmp_path / "own")
    generate(tmp_path / "own", 24, 16, 64, 9)
    assert "other photos, masks or lists" in stage_in(folder, Run(config), "meta", 0).refusal


def test_a_mixture_that_no_table_prints_is_refused_first(monkeypatch: pytest.MonkeyPatch, capsys):
    """SSP's folds of COCO are contiguous, Sym-Net's interleaved; an unknown paper would stop the table as well."""
    words = ["coco", "resnet50", "0", "--models", "symnet,ssp", "--folds", "0", "--shot", "1", "--published", "BAN"]
    monkeypatch.setattr(sys, "argv", ["reproduce", *words])
    assert main() == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert "differ in protocol (symnet (interleaved folds); symnet (contiguous folds))" in said
    monkeypatch.setattr(sys, "argv", ["reproduce", *words, "--set", "data.fold_rule=contiguous"])
    assert main() == EXIT_USER_ERROR
    said = capsys.readouterr().err
    assert "differ in" not in said and "--published ban: no such paper" in said


@pytest.mark.parametrize(
    ("dataset", "method", "total"),
    [
        ("pascal", "symnet", 32),
        ("coco", "symnet", 32),
        ("pascal", "hdmnet", 16),
        ("coco", "hdmnet", 24),
        ("pascal", "dcama", 48),
    ],
)
@pytest.mark.parametrize("gpus", [1, 2, 3, 4, 8])
def test_the_published_batch_holds_on_any_number_of_gpus(dataset: str, method: str, total: int, gpus: int):
    config = read_config(config_path("split0", dataset, method, "resnet50"))
    task = Task(config, "meta", gpus, Path())
    schedule = StepSchedule.from_settings(config.meta_stage, 3200, task.processes, "meta_stage")
    assert (schedule.batch, schedule.steps_per_epoch, task.note) == (total, 3200 // total, "")


def test_what_the_number_of_gpus_changes_is_said():
    config = read_config(config_path("split0", "pascal", "hdmnet", "resnet50"), ["meta_stage.batch_per=process"])
    task = Task(config, "meta", 8, Path())
    assert "16 for each of 8 processes: 128 in all, the steps 1/8" in task.note
    few = read_config(config_path("split0", "pascal", "ssp", "resnet50"))
    assert "4 of 8 GPUs" in replace(task, config=few).note


def test_training_seeds_have_runs_of_their_own_and_what_learns_nothing_has_one(tmp_path: Path):
    words = {"dataset": "mini", "net": "resnet10", "gpus": 0, "models": "bam,prototype", "shot": (1,), "folds": "0"}
    asked = Namespace(**words, protocol=None, overrides=[f"run.folder={tmp_path}"], seeds=(1, 2))
    first, second, third = reproduce.parts_of(asked)[0]
    assert [part.config.run.seed for part in (first, second)] == [1, 2] and third.method == "prototype"
    assert second.config.run.name == second.source.run.name == "mini_split0_bam_resnet10_seed2"
    assert (
        second.config.run.base_folder == "runs/mini_split0_resnet10_seed2/base" and "run.seed=2" in second.source.given
    )


@pytest.mark.process
def test_a_part_of_another_job_is_left_to_it_while_that_lives(done_run, monkeypatch: pytest.MonkeyPatch, capsys):
    config, _, result = done_run
    result.unlink()
    part = Part("symnet", config, config)
    monkeypatch.setattr(reproduce, "parts_of", lambda _: ([part], []))
    monkeypatch.setattr(Part, "tasks", lambda *_: [])
    monkeypatch.setattr(reproduce, "needs_of", lambda _: [])
    monkeypatch.setattr(parts, "run_script", lambda *_: 3)
    monkeypatch.setattr(sys, "argv", ["reproduce", "mini", "resnet10", "0"])
    here, there = os.pipe()
    if not (other := os.fork()):  # another process: a process does not lock itself out
        with claim(result.parent):
            os.write(there, b"claimed")
            signal.pause()
    assert os.read(here, 9) and main() == 0
    assert (
        f"{result.parent}: another command" in (told := capsys.readouterr().out) and "left to other jobs: tiny" in told
    )
    os.kill(other, signal.SIGKILL)
    os.waitpid(other, 0)
    assert main() == 3


def test_a_test_takes_the_settings_of_its_weights(done_run, tmp_path: Path):
    """Its options, and data and model of its file then; the command line, the fold and other sections stay."""
    config, meta = read_config(done_run[0].path), done_run[1]
    options = ["data.size=41", "data.workers=1", "run.device=cuda"]
    then = read_config(
        config.path, [*options, "data.min_pixels=7", "meta_stage.batch=3", "data.root=elsewhere", "test.batch=7"]
    )
    content = {"stage": "meta", "config": to_dict(then), "schedule": {"steps": 1}, "progress": {"step": 1}}
    for name in (BEST, LAST):
        checkpoint.save(meta / name, content)
    (meta / ENVIRONMENT).write_text(json.dumps({"options": options}))

    def tested(*given: str) -> Config:
        return Run(read_config(config.path, [*given])).for_test().config

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
    "override",
    [
        "data.min_pixels=7",
        "data.exclude_novel=false",
        "protocols.bam.smooth=true",
        "test.seeds=[3]",
        "test.episodes=20",
        "run.precision=bf16",
    ],
)
def test_a_result_of_other_settings_is_not_done(done_run, override: str):
    config, _, result = done_run
    key = override.partition("=")[0].removeprefix("protocols.bam.")
    assert key in reason_to_test(own_config(read_config(config.path, [override]), "bam", 1), result)


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["pascall", "resnet50", "0"], "'pascal'"),
        (["pascal", "resnet51", "0"], "resnet51"),
        (["pascal", "resnet50", "\u00b2"], "gpus"),
        (["pascal", "resnet50", "0", "--protocol", "bamm"], "'bam'"),
        (["pascal", "resnet50", "0", "--folds", "0,4"], "4"),
        (["crossdomain", "resnet50", "0", "--models", "hsnet", "--folds", "0"], "--folds"),
        (["pascal", "resnet50", "0", "--set", "data.siz=3"], "'size'"),
        (["pascal", "resnet50", "0", "--models", "symnet,sspp"], "'ssp'"),
    ],
)
def test_bad_words_are_refused(words: list[str], place: str, monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(sys, "argv", ["reproduce", *words])
    try:
        assert main() == EXIT_USER_ERROR
        said = capsys.readouterr().err
    except UserError as error:
        said = str(error)
    assert place in said


def test_a_dry_run_says_all_that_stops_it_and_writes_nothing(mini_root: Path, tmp_path: Path, monkeypatch, capsys):
    """On a machine without eight GPUs; a base stage is there, begun with other settings."""
    base = tmp_path / "runs/mini_split0_resnet10/base"
    schedule, progress = {"steps": 40}, {"step": 10}
    config = to_dict(read_config(REPOSITORY / "config/mini/mini_split0_resnet10.yaml", ["base_stage.epochs=9"]))
    checkpoint.save(base / LAST, {"stage": "base", "config": config, "schedule": schedule, "progress": progress})
    before = sorted((tmp_path / "runs").rglob("*"))
    settings = [f"data.root={mini_root}", f"data.cache={tmp_path}/cache", f"run.folder={tmp_path}/runs", "data.size=33"]
    settings += ["data.min_pixels=100", "data.text=names", "test.seeds=[0]"]
    options = [word for text in settings for word in ("--set", text)]
    words = ["mini", "resnet10", "8", "--folds", "0", "--shot", "1", "--models", "symnet,sspp,ssp", *options]
    monkeypatch.setattr(sys, "argv", ["reproduce", *words, "--dry-run", "--device-speed", "0.01"])
    with pytest.raises(UserError):  # below the least speed
        main()
    monkeypatch.setattr(sys, "argv", ["reproduce", *words, "--dry-run", "--device-speed", "0.1"])
    assert main() == EXIT_USER_ERROR and sorted((tmp_path / "runs").rglob("*")) == before
    said = capsys.readouterr()
    rows = [[cell.strip() for cell in line.split("|")[2:8]] for line in said.out.splitlines() if "config/" in line]
    (whole,) = (line for line in said.out.splitlines() if line.startswith("total:"))
    assert float(whole.split()[2]) == pytest.approx(sum(float(hours) for *_, hours in rows), abs=0.11)
    assert all(float(hours) > 0 for *_, hours in rows[:3])
    assert [row[:5] for row in rows[:3]] == [
        ["base", "step 10 of 40 with base_stage.epochs = 9, now 8", "16", "81", "2 x 8"],
        ["meta", "not begun", "16", "33", "1 x 8"],
        ["test by symnet", "no result yet", "1 x 200", "33", "8 x 8"],
    ]
    assert "base_stage.epochs = 9, now 8" in said.err and "'ssp'" in said.err and "data.text = names" in said.err


def test_a_step_that_does_not_fit_into_memory_is_refused(mini_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(mini_yaml("mini_split0_ssp_resnet10.yaml"), ["meta_stage.batch=4", "meta_stage.accumulate=2"])
    _, case, _ = described(Task(config, "meta", 1, Path()))
    assert case.batch == 2 and tried(case, "cpu") == ""

    def full(*_: object) -> None:
        raise MemoryError("1 GiB")

    monkeypatch.setattr(Case, "run", full)
    assert "meta_stage.batch" in tried(case, "cpu")
