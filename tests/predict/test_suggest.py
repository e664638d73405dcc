"""Suggestions of photos to mark: their order, copies, supports, and what is refused."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from tests.predict.conftest import BOX
from util.errors import UserError
from util.predict import Segmenter
from util.predict.suggest import ranking, suggested

MARK = "box=" + ",".join(map(str, BOX))


@pytest.fixture
def folder(tmp_path: Path, mini_root: Path) -> Path:
    """Return a folder of eight photos, and a copy of the first one."""
    out = tmp_path / "folder"
    out.mkdir()
    photos = sorted((mini_root / "JPEGImages").iterdir())[:8]
    for photo in photos:
        shutil.copy(photo, out)
    shutil.copy(photos[0], out / "zz_copy.jpg")
    return out


def test_the_best_photo_brings_the_others_nearest() -> None:
    angles = np.deg2rad([0, 4, 8, 80, 84, 0])
    photos = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    order = [index for index, *_ in ranking(photos, photos[:0], 6)]
    assert order[0] == (photos @ photos.mean(0)).argmax() == 2  # the nearest to the mean
    assert order[1] in (3, 4) and len({0, 5} & {*order}) <= 1  # then the other group; one of two copies at most
    assert ranking(photos, photos[:1], 1)[0][0] in (3, 4)
    assert ranking(photos[:1], photos[:0], 5) == [(0, 1.0, 1)] and not ranking(photos, photos, 5)


def test_supports_and_copies_are_not_suggested(predict, baseline: Path, folder: Path, tmp_path: Path) -> None:
    photos = sorted(folder.iterdir())
    base = "suggest", "--config", baseline, "--device", "cpu", "--query", folder, "--count", 9
    first = predict(*base, "--out", tmp_path)
    assert first.code == 0, first.errors
    rows = [*csv.DictReader((tmp_path / "suggest.csv").open())]
    named = [Path(row["photo"]) for row in rows]
    assert rows[0]["reason"] == "nearest to the mean of the folder" and len({*named}) == len(named) <= 8
    assert not {photos[0], photos[-1]} <= {*named} and "like" in first.output
    assert predict(*base).output == first.output
    found = predict(*base, "--support", f"a={named[0]}:{MARK}", "--support", f"b={photos[0]}:{MARK}")
    assert found.code == 0, found.errors
    assert not any(path.name in found.output for path in (named[0], photos[0], photos[-1]))
    assert "support" in found.output


def test_photos_that_cannot_be_read(predict, baseline: Path, folder: Path, tmp_path: Path) -> None:
    damaged = folder / "damaged.jpg"
    damaged.write_bytes(b"\xff\xd8 no photo")
    base = "suggest", "--config", baseline, "--device", "cpu"
    found = predict(*base, "--query", folder, "--count", 1)
    assert damaged.name in found.error and "mean of the folder" in found.output
    with pytest.raises(UserError, match="damaged"):
        suggested(Segmenter(config=baseline, device="cpu"), [damaged])
    for arguments, word in (
        (("--query", damaged), damaged.name),
        (("--query", tmp_path / "nothing"), "nothing"),
        (("--query", folder, "--count", 0), "--count"),
        ((), "--query"),
    ):
        assert word in predict(*base, *arguments).error
