"""The pictures of a test: those that are asked for, drawn from the predictions of its one pass."""

import re
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from model.baselines.prototype import PrototypeBaseline
from tests.evaluate.quick import PROTOTYPE, lines, quick_config
from util.evaluate.testing import test as score
from util.report.figure import CAPTION, GAP, PANEL_HEIGHT

pytestmark = pytest.mark.train


@pytest.fixture
def config(mini_yaml):
    """Return a function that gives a config over the tiny data set, with overrides."""
    return partial(quick_config, mini_yaml)


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
