"""Whatever a user can get wrong is one line on stderr, exit code 2, and no file."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from marked import HEIGHT, WIDTH
from PIL import Image

from util.engine import checkpoint
from util.predict.photos import MOST_PIXELS


def _png_of(width: int, height: int) -> bytes:
    """Return the start of a PNG whose header claims a size."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 99)) + chunk(b"IEND", b"")
    )


@pytest.fixture
def files(tmp_path: Path, photos: list[Path]) -> dict[str, Path]:
    """Return bad files by name."""
    folder = tmp_path / "bad"
    folder.mkdir()
    jpeg = photos[0].read_bytes()
    contents = {
        "cut.jpg": jpeg[: len(jpeg) // 2],
        "empty.jpg": b"",
        "text.jpg": b"not a photo",
        "script.eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        "bomb.png": _png_of(2**15, 2**15),
        "huge.png": _png_of(MOST_PIXELS // 1024 + 1, 1024),
        "text.json": b"{",
        "list.json": b'["shapes"]',
        "other.json": b'{"objects": []}',
        "none.json": b'{"shapes": []}',
        "line.json": b'{"shapes": [{"label": "a", "shape_type": "line", "points": [[1, 2], [3, 4]]}]}',
        "far.json": b'{"shapes": [{"label": "a", "points": [[1e9, 2], [3, 1e9], [5, 6]]}]}',
        "words.json": b'{"shapes": [{"label": "a", "points": [["x", 2]]}]}',
        "elsewhere.json": json.dumps({"images": [], "annotations": [], "categories": []}).encode(),
        "weights.pth": b"PK",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "black.png")
    Image.new("L", (WIDTH + 1, HEIGHT), 1).save(folder / "wide.png")
    Image.new("RGB", (WIDTH, HEIGHT), (9, 9, 9)).save(folder / "colours.png")
    torch.save({"layer": torch.zeros(3)}, folder / "plain.pth")
    return {p.name: p for p in folder.iterdir()} | {"gone.png": folder / "gone.png", "folder": folder}


@pytest.fixture
def refused(predict, baseline: Path, marked: dict[str, str], photos, tmp_path: Path) -> Callable[..., str]:
    """Return a function that runs a good command line with some options replaced, and gives the one line."""

    def run(**options: object) -> str:
        words = {"config": baseline, "support": marked["box"], "query": photos[0], "out": tmp_path / "out", **options}
        line = predict(*(w for k, v in words.items() if v is not None for w in (f"--{k.replace('_', '-')}", v))).error
        assert not list(tmp_path.glob("out/*"))
        return line

    return run


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("gone.png", "this photo does not exist"),
        ("folder", "is a folder"),
        ("cut.jpg", "not a photo that can be read"),
        ("empty.jpg", "not a photo that can be read"),
        ("text.jpg", "not a photo that can be read"),
        ("script.eps", "not a photo that can be read"),
        ("bomb.png", "the limit"),
        ("huge.png", f"the limit is {MOST_PIXELS}"),
    ],
)
def test_photos(refused, marked: dict[str, str], files: dict[str, Path], name: str, reason: str) -> None:
    for options in ({"query": files[name]}, {"support": f"{files[name]}:box=1,2,9,9"}):
        line = refused(**options)
        assert str(files[name]) in line and reason in line


@pytest.mark.parametrize(
    ("marks", "reason"),
    [
        ("{gone.png}", "this mask does not exist"),
        ("{text.jpg}", "not a mask that can be read"),
        ("{black.png}", "marks no pixel"),
        ("{wide.png}", "61 x 44 pixels, its photo has 60 x 44"),
        ("{text.json}", "neither labelme's"),
        ("{list.json}", "not in labelme's form"),
        ("{other.json}", "neither labelme's 'shapes' nor COCO's"),
        ("{none.json}", "outlines nothing"),
        ("{line.json}", "type 'line' has no area"),
        ("{far.json}", "impossible"),
        ("{words.json}", "not in labelme's form"),
        ("{elsewhere.json}", "knows no image 'marked.png'"),
        ("box=1,2,3", "is not 4 numbers"),
        ("box=1,2,x,4", "is not 4 numbers"),
        ("box=9,2,3,40", "must be x0,y0,x1,y1 within 0,0,60,44"),
        ("box=0,0,61,44", "must be x0,y0,x1,y1 within 0,0,60,44"),
        ("box=nan,0,9,9", "is not 4 numbers"),
        ("points=", "names no points"),
        ("points=1,2;99,3", "the point 99,3 is outside the photo"),
        ("scribble=1;2", "is not 2 numbers"),
        ("box=2,2,3,3", "vanishes at 33 pixels"),
    ],
)
def test_marks(refused, marked: dict[str, str], files: dict[str, Path], marks: str, reason: str) -> None:
    for name, path in files.items():
        marks = marks.replace(f"{{{name}}}", str(path))
    assert reason in refused(support=f"{marked['box'].partition(':')[0]}:{marks}")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"support": None}, "no supports"),
        ({"support": "photo.jpg"}, "write photo.jpg:mask.png"),
        ({"support": "=photo.jpg:mask.png"}, "names no class"),
        ({"support": ".._/x=photo.jpg:mask.png"}, "a class is called by"),
        ({"name": ""}, "a class is called by"),
        ({"name": "a\nb"}, "a class is called by"),
        ({"query": None}, "no queries"),
        ({"out": None}, "no folder for results"),
        ({"mask_value": 256}, "a mask's values are 1..255"),
        ({"radius": 0}, "must be more than 0"),
        ({"tile": 3}, "must be at least 32"),
        ({"batch": 0}, "must be at least 1"),
        ({"resize": 40}, "nearest: 33, 41"),
        ({"resize": 8001}, "must be 1..2049"),
        ({"resize": -7}, "must be 1..2049"),
        ({"resize": "big"}, "invalid int value"),
        ({"device": "toaster"}, "is not a device"),
        ({"output": "mete"}, "this model has no such output"),
        ({"config": None}, "no model: name a --checkpoint"),
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


@pytest.mark.parametrize(("name", "reason"), [("weights.pth", "truncated"), ("plain.pth", "carries no config")])
def test_checkpoints(refused, files: dict[str, Path], name: str, reason: str) -> None:
    line = refused(config=None, checkpoint=files[name])
    assert str(files[name]) in line and reason in line


def test_a_value_of_a_coloured_mask(refused, marked: dict[str, str], files: dict[str, Path]) -> None:
    photo = marked["box"].partition(":")[0]
    assert "stored as RGB" in refused(support=f"{photo}:{files['colours.png']}", mask_value=9)


def test_a_name_that_no_support_needs(refused, marked: dict[str, str]) -> None:
    assert "leave --name away" in refused(support=f"dog={marked['box']}", name="cat")


def test_a_number_of_shots_that_the_weights_are_not_for(predict, make_checkpoint, marked, photos, tmp_path: Path):
    words = ("--checkpoint", make_checkpoint("", "data.shot=5"), "--query", photos[0], "--out", tmp_path / "out")
    line = predict(*words, "--support", marked["box"], "--support", marked["index"]).error
    assert "2 support(s)" in line and "trained with 5 shots" in line
    five = [word for _ in range(5) for word in ("--support", marked["box"])]
    assert predict(*words, *five).code == 0


def test_vectors_of_another_width_and_missing_ones(predict, weights: Path, marked, photos, tmp_path: Path) -> None:
    (tmp_path / "narrow.txt").write_text("".join(f"{w} 1 2 3 4\n" for w in ("cat", "dog", "cow")))
    words = ("--checkpoint", weights, "--support", marked["box"], "--query", photos[0], "--out", tmp_path / "out")
    line = predict(*words, "--name", "cat", "--vectors", tmp_path / "narrow.txt").error
    assert "vectors of 4 numbers, this model was trained with 300" in line
    assert "does not exist" in predict(*words, "--name", "cat", "--vectors", tmp_path / "gone.txt").error
    assert "do not exist" in predict(*words, "--set", "data.text=gone").error


def test_a_base_checkpoint(predict, weights: Path, marked, photos, tmp_path: Path) -> None:
    content = checkpoint.read(weights) | {"stage": "base"}
    checkpoint.save(tmp_path / "base.pth", content)
    words = ("--checkpoint", tmp_path / "base.pth", "--support", marked["box"], "--query", photos[0])
    assert "of the base stage" in predict(*words, "--out", tmp_path / "out").error


def test_results_are_not_written_over(predict, baseline: Path, marked, photos, tmp_path: Path) -> None:
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
