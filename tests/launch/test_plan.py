"""The plan of ``reproduce.sh --dry-run``: stages, hours and memory, and all that stops it."""

import math
from pathlib import Path

import pytest

from tests.helpers.paths import REPOSITORY
from tests.launch.conftest import as_options
from util.checkpoints import checkpoint
from util.checkpoints.run import LAST
from util.config.compose import find_config
from util.config.read import read_config, to_dict
from util.errors import EXIT_USER_ERROR
from util.launch.plan import Estimate, hours_in_words, workload
from util.launch.reproduce import memory_problem
from util.launch.tasks import StageTask
from util.runtime.context import with_data
from util.train.benchmark_pass import BenchmarkPass


def test_a_dry_run_says_all_that_stops_it_and_writes_nothing(mini_root: Path, tmp_path: Path, typed):
    """On a machine without eight GPUs; a base stage is there, begun with other settings."""
    base = tmp_path / "runs/mini_split0_resnet10/base"
    config = to_dict(read_config(REPOSITORY / "config/mini/symnet.yaml", ["base_stage.epochs=9"]))
    content = {"stage": "base", "config": config, "schedule": {"steps": 40}, "progress": {"step": 10}}
    checkpoint.save(base / LAST, content)
    before = sorted((tmp_path / "runs").rglob("*"))
    settings = {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    settings |= {"data.size": 33, "data.min_pixels": 100, "data.text": "names", "test.seeds": [0]}
    words = ["mini", "resnet10", "8", "--folds", "0", "--shot", "1", "--models", "symnet,sspp,ssp"]
    words += [*as_options(settings), "--dry-run", "--device-speed"]
    assert "out of range" in typed(*words, "0.01")[1]  # below the least speed
    code, said = typed(*words, "0.1")
    assert code == EXIT_USER_ERROR
    assert sorted((tmp_path / "runs").rglob("*")) == before
    lines = said.splitlines()
    check_plan(lines)
    errors = "\n".join(line for line in lines if line.startswith("error: "))
    for text in ("base_stage.epochs = 9, now 8", "'ssp'", "data.text = names"):
        assert text in errors


def check_plan(lines: list[str]) -> None:
    """Assert that the plan of two methods has their stages, and hours that add up."""
    rows = [row_of_plan(line) for line in lines if line.startswith("| mini_split")]
    assert [row[:5] for row in rows[:3]] == [
        ["base", "step 10 of 40", "16", "81", "2 x 8"],
        ["meta", "not begun", "16", "33", "1 x 8"],
        ["test by symnet", "no result yet", "1 x 200", "33", "8 x 8"],
    ]
    hours = [float(row[5]) for row in rows]
    assert min(hours[:3]) > 0
    (total_line,) = (line for line in lines if line.startswith("total:"))
    total = float(total_line.split()[2])
    assert total == pytest.approx(sum(hours), abs=0.11)
    of_methods = [float(line.split(": ")[1].split()[0]) for line in lines if line.startswith(("Sym-Net:", "SSP:"))]
    assert len(of_methods) == 2
    assert total == pytest.approx(sum(of_methods), abs=0.11)


def row_of_plan(line: str) -> list[str]:
    """Return the cells of a row, without config and disk."""
    return [cell.strip() for cell in line.split("|")[2:8]]


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


def test_a_training_pass_takes_three_times_an_evaluation_of_depthwise_convolutions_too() -> None:
    config = with_data(read_config(find_config("split0", "mini", "bam", "lite0")), size=33)
    training, evaluation = (BenchmarkPass(config, 2, base=True, trains=trains).counted()[0] for trains in (True, False))
    assert 2.5 < training / evaluation < 3.2


def test_a_step_that_does_not_fit_into_memory_is_refused(mini_yaml, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_config(mini_yaml("ssp"), ["meta_stage.batch=4", "meta_stage.accumulate=2"])
    case = workload(StageTask(config, "meta", 1, Path())).case
    assert case.batch == 2 and memory_problem(case, "cpu") == ""

    def full(*_: object) -> None:
        raise MemoryError("1 GiB")

    monkeypatch.setattr(BenchmarkPass, "run", full)
    assert "meta_stage.batch" in memory_problem(case, "cpu")
