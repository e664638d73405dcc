"""The plan of ``reproduce.sh --dry-run``: stages, and all that stops it."""

from pathlib import Path

import pytest

from tests.launch.conftest import as_options
from util.config.compose import find_config
from util.config.read import read_config, to_dict
from util.files.errors import EXIT_USER_ERROR
from util.run import checkpoint
from util.run.run import LAST
from util.train.plan import checkpoint_bytes


def test_a_dry_run_says_all_that_stops_it_and_writes_nothing(mini_root: Path, tmp_path: Path, typed):
    """On a machine without eight GPUs; a base stage is there, begun with other settings."""
    base = tmp_path / "runs/mini_split0_resnet10/base"
    config = to_dict(read_config(find_config("split0", "mini"), ["base_stage.epochs=9"]))
    content = {"stage": "base", "config": config, "weights": {}, "schedule": {"steps": 40}, "progress": {"step": 10}}
    checkpoint.save(base / LAST, content)
    before = sorted((tmp_path / "runs").rglob("*"))
    settings = {"data.root": mini_root, "data.cache": tmp_path / "cache", "run.folder": tmp_path / "runs"}
    settings |= {"data.size": 33, "data.min_pixels": 100, "data.text": "names", "test.seeds": [0]}
    words = ["mini", "resnet10", "8", "--folds", "0", "--shot", "1", "--models", "symnet,sspp,ssp"]
    words += [*as_options(settings), "--dry-run"]
    code, said = typed(*words)
    assert code == EXIT_USER_ERROR
    assert sorted((tmp_path / "runs").rglob("*")) == before
    lines = said.splitlines()
    check_plan(lines)
    errors = "\n".join(line for line in lines if line.startswith("error: "))
    for text in ("base_stage.epochs = 9, now 8", "'ssp'", "data.text = names"):
        assert text in errors


def check_plan(lines: list[str]) -> None:
    """Assert that the plan of two methods has their stages, and bytes that add up."""
    rows = [row_of_plan(line) for line in lines if line.startswith("| mini_split")]
    assert rows[:3] == [
        ["base", "step 10 of 40", "16", "81", "2 x 8"],
        ["meta", "not begun", "16", "33", "1 x 8"],
        ["test by symnet", "no result yet", "1 x 200", "33", "8 x 8"],
    ]
    disk = [float(line.split("|")[-2]) for line in lines if line.startswith("| mini_split")]
    assert min(disk[:2]) > 0 and disk[2] == 0
    (total_line,) = (line for line in lines if line.startswith("disk:"))
    assert float(total_line.split()[1]) == pytest.approx(sum(disk), abs=0.11)


def row_of_plan(line: str) -> list[str]:
    """Return the cells of a row, without config and disk."""
    return [cell.strip() for cell in line.split("|")[2:7]]


def test_the_bytes_of_checkpoints_count_a_linked_file_once_and_a_vanished_one_not(tmp_path: Path) -> None:
    best = tmp_path / "best.pth"
    best.write_bytes(bytes(1000))
    (tmp_path / "last.pth").hardlink_to(best)
    (tmp_path / "vanished.pth").symlink_to(tmp_path / "nowhere")  # as between two replacements
    assert checkpoint_bytes([tmp_path]) == 1000
