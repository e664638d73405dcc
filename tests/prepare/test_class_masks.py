"""Tests of the data sets with a mask per photo and class: layouts, odd files, counts, bad input, and a test on them."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.outcome import Outcome
from tests.prepare import class_trees as trees
from util.data.images.read import read_mask
from util.prepare.datasets import fss1000, isic
from util.prepare.datasets.recipe import classes_of

Made = Callable[..., Outcome]


def lines(out: Path, part: str = "test") -> list[list[str]]:
    """Return the words of each line of a prepared list."""
    return [line.split() for line in (out / "lists" / f"{part}.txt").read_text().splitlines()]


def masks_digest(out: Path) -> str:
    """Return a digest of the names and pixels of all prepared masks."""
    digest = hashlib.sha256()
    for path in sorted((out / "masks").rglob("*.png")):
        digest.update(f"{path.relative_to(out)}".encode() + read_mask(path).tobytes())
    return digest.hexdigest()


def test_fss1000(made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = trees.fss(tmp_path / "raw/fewshot_data/fewshot_data")
    for part, of_part in names.items():
        (tmp_path / "lists/fss1000").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"lists/fss1000/{part}.txt").write_text("\n".join(of_part))
    monkeypatch.setattr(fss1000, "REPOSITORY", tmp_path)
    out, classes = tmp_path / "data", classes_of("fss1000")
    done = made("fss1000", tmp_path / "raw")
    assert done.code == 0 and "test: 30, published 2400: differs" in done.output
    test = lines(out)
    assert [words[0] for words in test[:3]] == ["abe's_flyingfish/1", "abe's_flyingfish/10", "abe's_flyingfish/2"]
    assert all(classes[int(number) - 1] == name.split("/")[0] for name, number, _ in test)
    for part, ids in (("test", range(761, 1001)), ("validation", range(521, 761)), ("train", range(1, 521))):
        assert {int(number) for _, number, _ in lines(out, part)} <= {*ids}
    assert any(name.startswith("assult_rifle/") for name, _, _ in lines(out, "train"))
    assert read_mask(out / "masks/bus/3.png").any()
    assert "nothing to do" in made("fss1000", tmp_path / "raw").output
    (tmp_path / "raw/fewshot_data/fewshot_data/bus/1.jpg").unlink()
    refused = made("fss1000", tmp_path / "raw")
    assert refused.code == 2 and "bus/1.jpg: this image does not exist" in refused.errors
    assert "test: 29, published" in made("fss1000", tmp_path / "raw", "--skip-bad").output


@pytest.mark.parametrize("folders", [False, True])
def test_isic(made: Made, tmp_path: Path, folders: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    root, out = trees.isic(tmp_path / "raw", 2, folders), tmp_path / "data"
    known = {p.stem for p in root.rglob("*.jpg")}
    rows = [row for row in isic.listed(isic.CLASSES) if row["ID"] in known]
    monkeypatch.setattr(isic, "listed", lambda name: rows)
    done = made("isic", root)
    assert done.code == 0 and "nevus: 2, published 1867: differs" in done.output
    assert "3 masks had another size than their photo" in done.output
    (out / "prepared.json").unlink()  # as after an interruption
    assert made("isic", root).output == done.output
    assert [number for _, number, _ in lines(out)] == ["1", "1", "2", "2", "3", "3"]
    assert all(read_mask(p).shape == (trees.SIDE, trees.SIDE) for p in (out / "masks").rglob("*.png"))
    again = next(root.rglob("*.jpg"))
    (root / "copy").mkdir()
    (root / "copy" / again.name).write_bytes(again.read_bytes())
    twice = made("isic", root)
    assert twice.code == 2 and f"are both {again.stem}" in twice.errors


def test_chest_xray(made: Made, tmp_path: Path) -> None:
    trees.chest(tmp_path / "raw/Lung Segmentation")
    out = tmp_path / "data"
    done = made("chestxray", tmp_path / "raw")
    assert done.code == 0 and "shenzhen: 3, published 566: differs" in done.output
    assert "photos without a mask, left out: 1" in done.output
    assert [name for name, _, _ in lines(out)][-1] == "MCUCXR_0002_1"  # its mask has no suffix
    assert len(lines(out)) == 5 and len(lines(out, "shenzhen")) == 3
    whole = (out / "lists/test.txt").read_text()
    for edited in (whole.split("\n", 1)[1], "no line of a list at all\n"):
        (out / "lists/test.txt").write_text(edited)
        assert made("chestxray", tmp_path / "raw").code == 0 and (out / "lists/test.txt").read_text() == whole
    (tmp_path / "raw/Lung Segmentation/CXR_png/MCUCXR_0002_1.png").unlink()
    refused = made("chestxray", tmp_path / "raw")
    assert refused.code == 2 and "MCUCXR_0002_1.png: this image does not exist" in refused.errors
    assert not (out / "lists").exists() or not list((out / "lists").iterdir())


def test_deepglobe_in_all_layouts(made: Made, tmp_path: Path) -> None:
    root, out = trees.deepglobe_raw(tmp_path / "raw", 1, 48), tmp_path / "data"
    done = made("deepglobe", root)
    assert done.code == 0 and "published 5666: differs" in done.output
    tiles = {photo for _, _, photo in lines(out)}
    assert len(tiles) == 30 and "1000_sat_05.jpg" not in tiles  # the first row has one colour
    left, right = read_mask(out / "masks/1/1000_sat_10.png"), read_mask(out / "masks/2/1000_sat_10.png")
    assert np.array_equal(left, 1 - right) and left[:, :4].all() and not left[:, 4:].any()
    assert len(list((out / "masks").glob("*/1000_sat_13.png"))) == 1  # half of it is unknown, which is no class
    for form in ("Deepglobe", "04_train_cat", "filter_mask"):
        other = tmp_path / f"data_{form}"
        cut = made("deepglobe", trees.deepglobe_cut(tmp_path / form, form, out), "--out", other)
        assert cut.code == 0, cut.errors
        assert masks_digest(other) == masks_digest(out)
        assert sorted(lines(other)) == sorted(lines(out))


@pytest.mark.parametrize("coloured", [False, True])
def test_suim(made: Made, tmp_path: Path, coloured: bool) -> None:
    root, out = trees.suim_tree(tmp_path / "raw", coloured), tmp_path / "data"
    done = made("suim", root)
    assert done.code == 0 and "test: 4, published 3859: differs" in done.output
    assert sorted(name for name, _, _ in lines(out)) == ["FV/d_r_0_", "FV/d_r_1_", "RO/d_r_1_", "WR/d_r_0_"]


def test_a_folder_of_other_files_is_left_alone(made: Made, tmp_path: Path) -> None:
    root, out = tmp_path / "raw", tmp_path / "data"
    trees.chest(root)
    (out / "lists").mkdir(parents=True)
    (out / "lists/mine.txt").write_text("mine")
    refused = made("chestxray", root)
    assert refused.code == 2 and "holds other files" in refused.errors and (out / "lists/mine.txt").exists()
    (tmp_path / "file").write_text("")
    assert "holds other files" in made("chestxray", root, "--out", tmp_path / "file").errors
