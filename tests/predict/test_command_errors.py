"""A wrong option is one line on stderr, exit code 2, and no file; tests/cli has the malformed files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def refused(predict, baseline: Path, marked: dict[str, str], photos, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a good command line with some options replaced, and gives the error line."""

    def run(**options: object) -> str:
        words = {"config": baseline, "support": marked["box"], "query": photos[0], "out": tmp_path / "out", **options}
        line = predict(*(w for k, v in words.items() if v is not None for w in (f"--{k.replace('_', '-')}", v))).error
        assert not list(tmp_path.glob("out/*"))
        return line

    return run


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ("box=1,2,3", "is not 4 numbers"),
        ("box=1,2,x,4", "is not 4 numbers"),
        ("box=9,2,3,40", "must be x0,y0,x1,y1 within 0,0,60,44"),
        ("box=0,0,61,44", "must be x0,y0,x1,y1 within 0,0,60,44"),
        ("box=nan,0,9,9", "is not 4 numbers"),
        ("box=1_0,0,30,9", "is not 4 numbers"),
        ("box=\uff11,0,30,9", "is not 4 numbers"),
        ("points=", "names no points"),
        ("points=1,2;99,3", "the point 99,3 is outside the photo"),
        ("scribble=1;2", "is not 2 numbers"),
        ("box=2,2,3,3", "vanishes at 33 pixels"),
    ],
)
def test_marks(refused, marked: dict[str, str], marks: str, reason: str) -> None:
    assert reason in refused(support=f"{marked['box'].partition(':')[0]}:{marks}")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"support": None}, "no supports"),
        ({"support": "photo.jpg"}, "write photo.jpg:mask.png"),
        ({"support": "=photo.jpg:mask.png"}, "names no class"),
        ({"support": ".._/x=photo.jpg:mask.png"}, "a class name has 1 to 80"),
        ({"name": ""}, "a class name has 1 to 80"),
        ({"name": "a\nb"}, "a class name has 1 to 80"),
        ({"query": None}, "no queries"),
        ({"out": None}, "no folder for results"),
        ({"tile": 3}, "--tile: 3 is out of range; allowed: at least 32"),
        ({"resize": 40}, "nearest: 33, 41"),
        ({"resize": 8001}, "--resize: 8001 is out of range; allowed: 1..2049"),
        ({"resize": "big"}, "invalid int value"),
        ({"device": "toaster"}, "is not a device"),
        ({"output": "mete"}, "this model has no such output"),
        ({"config": "gone.yaml"}, "cannot read this config"),
        ({"config": None, "checkpoint": "gone.pth"}, "this checkpoint does not exist"),
        ({"config": None, "checkpoint": "best"}, "means the checkpoint of a run"),
        ({"checkpoint": "some.pth"}, "this model learns nothing and loads no checkpoint"),
        ({"set": "data.size=34"}, "not 8k + 1"),
        ({"speed": 3}, "unrecognized arguments"),
    ],
)
def test_options(refused, options: dict[str, object], reason: str) -> None:
    assert reason in refused(**options)


def test_a_number_of_shots_that_the_weights_are_not_for(predict, make_checkpoint, marked, photos, tmp_path: Path):
    words = ("--checkpoint", make_checkpoint("", "data.shot=5"), "--query", photos[0], "--out", tmp_path / "out")
    line = predict(*words, "--support", marked["box"], "--support", marked["index"]).error
    assert "2 support(s)" in line and "trained with 5 shots" in line
    five = [word for _ in range(5) for word in ("--support", marked["box"])]
    assert predict(*words, *five).code == 0


def test_results_are_not_overwritten(predict, baseline: Path, marked, photos, tmp_path: Path) -> None:
    words = ("--config", baseline, "--support", marked["box"], "--query", photos[0], "--out", tmp_path / "out")
    assert predict(*words).code == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()}
    assert "add --overwrite" in predict(*words).error
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").iterdir()} == before
    assert predict(*words, "--overwrite").code == 0


def test_queries_that_would_share_their_results(refused, predict, baseline, marked, photos, tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    twin = tmp_path / "again" / f"{photos[0].stem}.png"
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(twin)
    words = ("--config", baseline, "--support", marked["box"], "--out", tmp_path / "out")
    assert "rename a photo" in predict(*words, "--query", photos[0], twin).error
    Image.new("RGB", (40, 50)).save(tmp_path / "a_mask.png"), Image.new("RGB", (40, 50)).save(tmp_path / "a.png")
    words = ("--config", baseline, "--support", marked["box"], "--out", tmp_path, "--overwrite")
    assert "is a query and would be" in predict(*words, "--query", tmp_path / "a.png", tmp_path / "a_mask.png").error
    assert "is a file" in refused(out=twin)
