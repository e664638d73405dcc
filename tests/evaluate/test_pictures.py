"""The pictures of a test, from the predictions that its one pass keeps, and several methods side by side."""

import re
import sys
from collections import Counter
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from model.baselines.prototype import PrototypeBaseline
from report import command
from tests.evaluate.quick import FEW, PROTOTYPE, SYMNET, lines, quick_config
from util.errors import UserError
from util.evaluate import pictures as module
from util.evaluate.evaluate import FINAL
from util.evaluate.metrics import iou_of
from util.evaluate.pictures import KeptPredictions, side_by_side
from util.evaluate.test import Test, own_config
from util.evaluate.testing import test as score
from util.report.figure import CAPTION, GAP, PANEL_HEIGHT
from util.report.schema import read_result
from util.runtime.processes import ProcessGroup

EPISODES = {0: 40, 7: 25}


@pytest.mark.parametrize("wanted", [{"worst": 3, "best": 2, "random": 5}, {"random": 80}])
@pytest.mark.parametrize("processes", [1, 3])
def test_the_chosen_episodes_are_kept_with_their_predictions(wanted: dict[str, int], processes: int) -> None:
    random = np.random.default_rng(0)
    episodes = [(seed, n) for seed, length in EPISODES.items() for n in range(length)]
    records = {key: torch.tensor([[key[1], 1, random.integers(0, 5), 5, 0, 1]]) for key in episodes}  # many ties
    kept = {}
    for rank in range(processes):
        part = KeptPredictions(wanted, EPISODES)
        for seed, number in episodes[rank::processes]:
            of, prior = {FINAL: torch.full((1, 6, 8), number % 2)}, {"prior": torch.full((3, 4), seed / 8)}
            part.add(seed, number, {FINAL: records[seed, number]}, of, prior)
        own = part.gathered(ProcessGroup(0, 1, torch.device("cpu")))
        assert len(own) <= sum(wanted.values())
        kept |= own
    chosen = part.chosen({key: iou_of(rows.numpy()) for key, rows in records.items()})
    assert chosen == part.chosen({episode: found.ious[FINAL] for episode, found in kept.items()})
    for seed, number in chosen:
        mask = cv2.imdecode(kept[seed, number].predictions[FINAL], cv2.IMREAD_UNCHANGED)
        prior = kept[seed, number].maps["prior"]
        assert mask.shape == (6, 8) and mask.dtype == np.uint8 and (mask == number % 2).all()
        assert prior.shape == (3, 4) and (prior == seed / 8).all()


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""
    return partial(quick_config, mini_yaml)


@pytest.mark.train
def test_pictures_are_the_worst_and_best_until_the_next_test(config, tmp_path: Path, charts):
    score(config(PROTOTYPE, "test.pictures=2"), save_images={"worst": 3, "best": 2, "random": 4})
    folder = tmp_path / "runs/tiny/test/symnet_quick"
    height = len(np.array(Image.open(folder / "episodes.png")))  # of two rows of panels
    assert height == 2 * (CAPTION + PANEL_HEIGHT + GAP)
    page = (folder / "pictures/index.html").read_text()
    figures = re.findall(r'data-iou="([\d.]+)" data-class="([^"]+)" data-kinds="([^"]+)"', page)
    ious = sorted(100 * e["outputs"]["final"][0] / max(e["outputs"]["final"][1], 1) for e in lines(folder))
    shown = {kind: sorted(float(i) for i, _, kinds in figures if kind in kinds.split()) for kind in ("worst", "best")}
    assert shown["worst"] == pytest.approx(ious[:3], abs=1e-3) and shown["best"] == pytest.approx(ious[-2:], abs=1e-3)
    assert sum("random" in kinds for _, _, kinds in figures) == 4
    assert "http" not in page
    files = re.findall(r'<a href="([^"]+\.png)"', page)
    assert len(files) == len(figures) and all(np.array(Image.open(folder / "pictures" / f)).std() > 10 for f in files)
    for name in ("curve.png", "per_class.png"):
        assert np.array(Image.open(folder / name)).std() > 10
    score(config())
    assert not (folder / "pictures").exists() and not (folder / "episodes.png").exists()
    assert (folder / "curve.png").exists() and (folder / "result.json").exists()


@pytest.mark.train
def test_pictures_need_no_second_pass(config, tmp_path: Path, monkeypatch):
    passes = Counter()
    forward = PrototypeBaseline.forward

    def counted(network, episode):
        passes["network"] += len(episode.query)
        return forward(network, episode)

    monkeypatch.setattr(PrototypeBaseline, "forward", counted)
    score(config(PROTOTYPE, "data.shot=3"), save_images={"random": 4}, figures="svg")
    assert passes["network"] == 14
    folder = tmp_path / "runs/tiny/test_3shot/symnet_quick"
    drawn = [*(folder / "pictures").glob("*.svg")]
    assert len(drawn) == len([*(folder / "pictures").glob("*.png")]) == 4 and "support 3" in drawn[0].read_text()
    log = (folder / "log.txt").read_text()
    assert "protocol: symnet" in log and "| final" in log and "shot: 3" in log and "made from the masks" in log


@pytest.mark.train
def test_methods_stand_beside_each_other_on_the_same_episodes(mini_yaml, tmp_path: Path, monkeypatch) -> None:
    configs = [quick_config(mini_yaml, name, f"run.name={name[:-5]}") for name in (SYMNET, PROTOTYPE)]
    for config in configs:
        score(config)
    folders = [Test(own_config(config, "symnet", config.data.shot)).folder for config in configs]
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


@pytest.mark.train
def test_what_cannot_stand_beside_is_refused(mini_yaml, tmp_path: Path) -> None:
    configs = [quick_config(mini_yaml, PROTOTYPE, f"run.name=of{fold}", f"data.fold={fold}", *FEW) for fold in (0, 1)]
    for config in configs:
        score(config)
    first, second = folders = [Test(own_config(config, "symnet", config.data.shot)).folder for config in configs]
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
