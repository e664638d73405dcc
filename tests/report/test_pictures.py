"""Pictures of episodes, predicted again from results' weights, and several methods side by side."""

import re
import sys
from pathlib import Path

import pytest

from report import command
from tests.evaluate.quick import FEW, PROTOTYPE, SYMNET, quick_config
from tests.helpers.read import write_json
from tests.helpers.scored import score
from tests.report.conftest import counts
from util.config.settings import Config
from util.data.lists.manifest import read_manifest
from util.evaluate.evaluation import Evaluation
from util.evaluate.schema import read_result
from util.files.errors import UserError
from util.report import pictures as module
from util.report.pictures import chosen, draw_figure, iou_of


def test_episodes_are_chosen_by_number_or_by_their_scores() -> None:
    rows = counts(1, 9, 0.5)
    ranked = sorted(range(9), key=lambda number: rows[number]["outputs"]["final"][0])
    assert (chosen("3,8,1", rows), chosen("worst:2", rows)) == ([3, 8, 1], ranked[:2])
    assert chosen("best:20", rows) == ranked[::-1]
    for text, said in (("9", "--episodes 9: .* 0 to 8"), ("wrst:3", "worst:8"), ("3,x", "worst:8"), ("", "worst:8")):
        with pytest.raises(UserError, match=said):
            chosen(text, rows)


def scored_folder(config: Config) -> Path:
    """Test a config and return the folder of the result."""
    score(config)
    return Evaluation(config, "symnet").folder


@pytest.mark.train
def test_methods_are_drawn_beside_each_other_on_equal_episodes(mini_yaml, tmp_path: Path, monkeypatch) -> None:
    folders = [scored_folder(quick_config(mini_yaml, name, f"run.name={name[:-5]}")) for name in (SYMNET, PROTOTYPE)]
    drawn = []
    out = tmp_path / "beside"
    with monkeypatch.context() as patched:
        patched.setattr(module, "draw", drawn.extend)
        patched.setattr(module, "write_figure", lambda path, figure: [path])
        assert draw_figure(folders, "5,0", out) == [out]
        draw_figure(folders[:1], "worst:1", out)
    *beside, alone = drawn
    for number, row in zip((5, 0), beside, strict=True):
        support, query, truth, *methods = dict(row)
        assert (support[:9], query, truth) == ("support 1", "query", "truth")
        for folder, method, caption in zip(folders, ("Sym-Net", "prototype baseline"), methods, strict=True):
            episode = read_manifest(folder / "episodes.jsonl").episodes[number]
            assert re.match(f"{method}.* IoU {iou_of(episode, 'final'):.1f} %$", caption)
    assert {"meta", "base"} <= {caption.partition(",")[0].partition(":")[0] for caption, _ in alone}
    words = "report", "figure", *map(str, folders), "--episodes", "1,2", "--out", f"{out}.pdf"
    monkeypatch.setattr(sys, "argv", [*words])
    assert (command(), out.with_suffix(".pdf").read_bytes()[:4]) == (0, b"%PDF")


@pytest.mark.train
def test_results_that_cannot_be_drawn_are_refused(mini_yaml, tmp_path: Path) -> None:
    settings = [(f"run.name=fold{fold}", f"data.fold={fold}", *FEW) for fold in (0, 1)]
    folders = [scored_folder(quick_config(mini_yaml, PROTOTYPE, *of_fold)) for of_fold in settings]
    path = folders[1] / "result.json"
    with pytest.raises(UserError, match="have different episodes under these numbers"):
        draw_figure(folders, "1", tmp_path / "figure")
    write_json(path, {**read_result(path), "weights": "0" * 64})
    with pytest.raises(UserError, match="the weights have changed"):
        draw_figure([path], "1", tmp_path / "figure")
    assert not (tmp_path / "figure.png").exists()
