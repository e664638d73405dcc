"""Every command of ``python -m benchmark`` at a tiny size: cases, numbers, JSON and mistakes."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from benchmark import process
from benchmark.__main__ import command
from benchmark.gpu import page as gpu_page
from benchmark.gpu import runner
from benchmark.gpu.parts import PARTS
from benchmark.linear_fit import linear_fit
from benchmark.worker import ENCODER, EPISODE, Task, Worker
from tests import spawned
from util import cli
from util.config.read import read_config
from util.engine.testing import test as score
from util.errors import UserError

SMALL = ("--device", "cpu", "--threads", "1", "--repeats", "1")
SIDE = 33
NETWORK = ("--backbone", "resnet10_narrow", "--size", str(SIDE))
STATED = {"machine", "device", "threads", "load", "torch", "python", "date"}
Run = Callable[..., tuple[str, list[dict]]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Yield a function that runs a command in this process and returns its output and the rows of its JSON."""
    threads = torch.get_num_threads(), cv2.getNumThreads()
    path = tmp_path / "out.json"

    def call(*words: str) -> tuple[str, list[dict]]:
        monkeypatch.setattr(sys, "argv", ["benchmark", *words, *SMALL, "--json", str(path)])
        assert command() == 0
        content = json.loads(path.read_text())
        assert content["command"] == words[0] and content["conditions"].keys() >= STATED
        return capsys.readouterr().out, content["rows"]

    yield call
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


@pytest.mark.benchmark
@pytest.mark.process
def test_speed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")  # starts faster; test_memory spawns
    printed, rows = run("speed", "--models", "symnet,ssp", "--shot", "1,2", *NETWORK)
    cases = [(r["model"], r["shots"], r["stage"]) for r in rows]
    assert cases == [
        ("symnet", 1, "evaluation"),
        ("symnet", 2, "evaluation"),
        ("symnet", 1, "training"),
        ("ssp", 1, "evaluation"),
        ("ssp", 2, "evaluation"),
    ]
    for row in rows:
        assert row["ours_units"] == pytest.approx(row["ours_seconds"] / row["unit_seconds"])
        assert row["ours_over_naive"] == pytest.approx(row["ours_seconds"] / row["naive_seconds"])
    assert f"| symnet resnet10_narrow, {SIDE} px, 1-shot training, batch 4 |" in printed


@pytest.mark.benchmark
@pytest.mark.process
def test_a_worker_that_dies_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")
    case = {"model": "ssp", "backbone": "resnet10_narrow", "size": SIDE, "shots": 1, "batch": 1, "stage": "evaluation"}
    with Worker(Task(case, "naive")) as worker:
        worker.ready()
        assert worker.seconds(ENCODER) > 0 < worker.seconds(EPISODE)
        worker.process.kill()
        with pytest.raises(UserError, match=r"naive, .*its process ended, probably because memory ran out"):
            worker.seconds(ENCODER)


@pytest.mark.benchmark
@pytest.mark.process
def test_memory(run: Run) -> None:
    printed, rows = run("memory", "--models", "symnet", "--stages", "training", *NETWORK)
    (row,) = rows
    assert "1-shot training, batch 4" in printed
    assert all(0 <= row[f"{way}_mib"] < row[f"{way}_peak_mib"] for way in ("ours", "naive"))


@pytest.mark.benchmark
def test_loader(run: Run) -> None:
    few = ("--photos", "45", "--episodes", "2", "--size", "65")
    printed, rows = run("loader", "--shot", "1,2", *few)
    assert [r["shots"] for r in rows] == [1, 2] and "synthetic photos of" in printed
    assert all(r[key] > 0 for r in rows for key in r if key.endswith("second"))


@pytest.mark.benchmark
@pytest.mark.process
def test_scaling(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")  # starts faster; test_memory spawns
    spawned.ensure_running()
    axes = (
        "--sizes",
        "33,41",
        "--shot",
        "1,2",
        "--ways",
        "1,2",
        "--batches",
        "1,2",
        "--processes",
        "2",
        "--episodes",
        "2",
    )
    printed, rows = run("scaling", *axes, *NETWORK)
    along = {axis: [r for r in rows if r["axis"] == axis] for axis in ("size", "shots", "ways", "batch", "processes")}
    assert {axis: [r["at"] for r in found] for axis, found in along.items()} == {
        "size": [33, 41],
        "shots": [1, 2],
        "ways": [1, 2],
        "batch": [1, 2],
        "processes": [2],
    }
    one, two = along["shots"]
    assert two["seconds_per_added_shot"] == pytest.approx(two["seconds"] - one["seconds"])
    assert [r["at"] for r in rows if r["axis"] == "episodes"] == [1, 2]
    assert "against size" in printed and "peak MiB" in printed


@pytest.mark.benchmark
@pytest.mark.process
def test_images(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")
    spawned.ensure_running()
    printed, rows = run("images", "--images", "2000,4000,6000")
    assert [(r["step"], r["at"]) for r in rows] == [
        (s, n) for s in ("index", "list", "episodes") for n in (2000, 4000, 6000)
    ]
    assert all(r["seconds"] > 0 for r in rows) and "make the list, thousand images" in printed
    assert "for each further one" in printed and "read the index" in printed


def test_a_line_is_found_with_its_interval() -> None:
    random = np.random.default_rng(0)
    exact = linear_fit({x: [3 + 2 * x] * 2 for x in (1, 2, 4)})
    assert exact is not None and exact[:4] == pytest.approx((3, 2, 2, 2)) and exact.explained == pytest.approx(1)
    inside = 0
    for _ in range(200):
        fit = linear_fit({x: (1 + 5 * x + random.normal(size=3)).tolist() for x in range(4)})
        assert fit is not None and fit.low < fit.slope < fit.high
        inside += fit.low < 5 < fit.high
    assert 180 <= inside <= 199  # 95 % of the intervals hold the truth
    assert linear_fit({1: [1.0, 2.0, 3.0]}) is None and linear_fit({1: [1.0], 2: [2.0]}) is None


@pytest.mark.benchmark
def test_profile(run: Run) -> None:
    printed, rows = run("profile", *NETWORK)
    parts = {r["part"]: r["share"] for r in rows if "part" in r}
    assert {"encoder", "prior", "decoder"} <= parts.keys() and sum(parts.values()) == pytest.approx(1)
    assert any("conv" in r["operation"] for r in rows if "operation" in r)
    assert "| encoder " in printed


@pytest.mark.benchmark
def test_switches(run: Run) -> None:
    printed, rows = run("switches", *NETWORK)
    published, *others = rows
    assert published["network"] == "published" and published["evaluation_beside_published"] == 1
    assert {r["network"] for r in others} >= {"likelihood", "match", "4D head"}
    more = {r["network"]: r["parameters"] - published["parameters"] for r in others}
    assert more["likelihood"] == 0 < more["4D head"] < more["match"]
    assert more["likelihood, match, 4D head"] == more["match"] + more["4D head"]
    assert "| likelihood, match, 4D head |" in printed


@pytest.mark.benchmark
@pytest.mark.process
def test_encoders(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")
    spawned.ensure_running()
    names = "resnet10_narrow,timm/tf_efficientnet_lite0@16"
    printed, (ours, timm) = run("encoders", "--encoders", names, "--size", "67")
    assert (ours["size"], ours["grid"]) == (67, 9) and (timm["size"], timm["grid"]) == (65, 5)  # the nearest it takes
    assert 0 < ours["parameters"] < timm["parameters"] and timm["mib"] >= 0
    assert timm["units"] == pytest.approx(timm["rounds"]["measured"][0] / timm["rounds"]["unit"][0])
    assert "| timm/tf_efficientnet_lite0, stride 16 | 65 |" in printed


@pytest.mark.benchmark
@pytest.mark.process
def test_whole(run: Run, mini_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")
    spawned.ensure_running()
    path = mini_yaml("mini_split0_ssp_resnet10.yaml", model={"encoder": {"weights": None}})
    config = read_config(path, ["test.checkpoint=none", "test.episodes=6", "test.seeds=[0]"])
    score(config)
    printed, (row,) = run("whole", str(config.run.folder), "--sample", "2")
    assert len(row["episode_seconds"]) == 2 and row["shots"] == 1
    assert row["plain_minutes"] * 60 == pytest.approx(6 * sum(row["episode_seconds"]) / 2)
    assert row["ours_over_plain"] == pytest.approx(row["minutes"] / row["plain_minutes"])
    assert "a whole test; plain from 2 episodes" in printed
    with pytest.raises(UserError, match="a result's minutes are of the wall clock"):
        run("whole", str(config.run.folder), "--clock", "cpu")
    score(read_config(path, ["test.checkpoint=none", "test.episodes=2", "test.seeds=[0]", "test.flip=true"]))
    with pytest.raises(UserError, match=r"1 way\(s\), 2 pass\(es\) an episode; name a result of one way"):
        run("whole", str(config.run.folder))


@pytest.mark.benchmark
@pytest.mark.process
@pytest.mark.train
def test_gpu_tries_every_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    monkeypatch.setattr(process, "START_METHOD", "forkserver")
    spawned.ensure_running()
    monkeypatch.setattr(sys, "argv", ["benchmark", "gpu", "--quick", "--out", str(tmp_path), "--slice-minutes", "60"])
    assert command() == 0, (tmp_path / "report.md").read_text()
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["finished"] and report["parts"].keys() == PARTS.keys()
    for part, units in report["parts"].items():
        ended = {entry["status"] for entry in units.values()}
        assert ended <= {"done", "skipped"} and ("done" in ended or part == "parity"), units
    group = report["parts"]["processes"]["gloo, 2 processes on one device"]["result"]
    assert group["equal"] and len(group["losses"]) == 3
    assert "lower meta_stage.batch" in report["parts"]["out_of_memory"]["training step"]["result"]["line"]
    assert 0 <= report["parts"]["training"]["symnet"]["result"]["miou"] <= 100
    page = (tmp_path / "report.md").read_text()
    assert "| evaluation, symnet " in page and "needs CUDA" in page and "finished; 0 failed" in capsys.readouterr().out


def test_gpu_records_a_failure_and_continues_in_slices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def failing(settings: object) -> dict:
        raise ValueError("no such\nkernel")

    fine = SimpleNamespace(TITLE="fine", NEEDS=(), SECONDS=1e6, CONTINUES=False, tables=lambda results: {})
    fine.units = lambda settings: {name: lambda _: {} for name in ("one", "two")}
    broken = SimpleNamespace(**vars(fine) | {"TITLE": "broken", "units": lambda settings: {"all": failing}})
    lacking = SimpleNamespace(**vars(fine) | {"TITLE": "lacking", "NEEDS": ("no_such_package",)})
    for module in (runner, gpu_page):
        monkeypatch.setattr(module, "PARTS", {"broken": broken, "fine": fine, "lacking": lacking})
    monkeypatch.setattr(sys, "argv", ["benchmark", "gpu", "--quick", "--out", str(tmp_path)])
    assert [command() for _ in range(4)] == [0, 0, 1, 1]  # a unit in each slice, since the next would take too long
    parts = json.loads((tmp_path / "report.json").read_text())["parts"]
    assert (
        parts["broken"]["all"]["error"] == "ValueError: no such kernel" and "failing" in parts["broken"]["all"]["trace"]
    )
    assert [entry["status"] for entry in parts["fine"].values()] == ["done", "done"]
    page = (tmp_path / "report.md").read_text()
    assert (
        "- broken, all: ValueError: no such kernel" in page and "lacking, one: not installed: no_such_package" in page
    )
    assert "1 failed" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["benchmark", "gpu", "--out", str(tmp_path)])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(UserError, match="begun with quick = True, now False"):
        command()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("gpu", "--out", "report", "--minutes", "0"), "no positive number of minutes"),
        (("speed", "--models", "symet"), "did you mean 'symnet'?"),
        (("memory", "--models", "dcama", "--size", "65"), "the nearest are 64 and 96"),
        (("scaling", "--sizes", "64"), "the nearest are 57 and 65"),
        (("speed", "--stages", "train"), "did you mean 'training'?"),
        (("loader", "--shot", "0"), "not a number of at least 1"),
        (("encoders", "--encoders", "resnet51"), "did you mean 'resnet50'?"),
        (("encoders", "--encoders", "resnet50@four"), "@four is no output stride; write such as resnet50@8"),
        (("encoders", "--encoders", "timm/swin_tiny_patch4_window7_224@8"), "output_stride = 8 does not go with"),
    ],
)
def test_mistakes_are_a_line(words: tuple[str, ...], says: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    with pytest.raises(SystemExit) as left:
        cli.main(command)
    said = capsys.readouterr().err
    assert left.value.code == 2 and says in said and len(said.splitlines()) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_without_one_is_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "gpu", "--out", str(tmp_path / "report")])
    with pytest.raises(SystemExit) as left:
        cli.main(command)
    said = capsys.readouterr().err
    assert left.value.code == 2 and said.startswith("error: no CUDA device here; --quick") and said.count("\n") == 1
    assert not (tmp_path / "report").exists()
