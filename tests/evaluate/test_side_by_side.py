"""One figure of several methods on the same episodes."""

import sys
from pathlib import Path

import pytest

from report import command
from tests.evaluate.quick import FEW, PROTOTYPE, SYMNET, quick_config
from util.errors import UserError
from util.evaluate import pictures as module
from util.evaluate.jobs import result_folder
from util.evaluate.pictures import side_by_side
from util.evaluate.testing import test as score
from util.report.schema import read_result

pytestmark = pytest.mark.train


def test_methods_stand_beside_each_other_on_the_same_episodes(mini_yaml, tmp_path: Path, monkeypatch) -> None:
    configs = [quick_config(mini_yaml, name, f"run.name={name[:-5]}") for name in (SYMNET, PROTOTYPE)]
    for config in configs:
        score(config)
    folders = [result_folder(config, "symnet") for config in configs]
    drawn, out = [], tmp_path / "beside"
    monkeypatch.setattr(module, "draw", lambda boards, aligned: drawn.extend(boards) or "figure")
    monkeypatch.setattr(module, "write_figure", lambda path, figure, suffix: None)
    assert side_by_side(folders, (5, 0), out) == [tmp_path / "beside.png", tmp_path / "beside.pdf"]
    assert [len(board) for board in drawn] == [5, 5]  # support, query, truth and two methods
    for number, board in zip((5, 0), drawn, strict=True):
        for (caption, _), folder, title in zip(board[3:], folders, ("Sym-Net", "prototype baseline"), strict=True):
            counts = module.read_manifest(folder / "episodes.jsonl").episodes[number]["outputs"]["final"]
            iou = 100 * counts[0] / max(counts[1], 1)
            assert caption.startswith(title) and caption.endswith(f"IoU {iou:.1f} %")
    monkeypatch.undo()
    words = ["report", "figure", *map(str, folders), "--episodes", "1,2", "--out", f"{out}.pdf"]
    monkeypatch.setattr(sys, "argv", words)
    assert command() == 0 and out.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_what_cannot_stand_beside_is_refused(mini_yaml, tmp_path: Path) -> None:
    configs = [quick_config(mini_yaml, PROTOTYPE, f"run.name=of{fold}", f"data.fold={fold}", *FEW) for fold in (0, 1)]
    for config in configs:
        score(config)
    first, second = folders = [result_folder(config, "symnet") for config in configs]
    path, weights = second / "result.json", read_result(second / "result.json")["weights"]
    path.write_text(path.read_text().replace(weights, "0" * 64))
    for places, number, message in (
        ([first], 2, "--episodes 2: .* 0 to 1"),
        (folders, 1, "other episodes"),
        ([second], 1, "the weights have changed"),
    ):
        with pytest.raises(UserError, match=message):
            side_by_side(places, (number,), tmp_path / "figure")
    assert not (tmp_path / "figure.png").exists()
