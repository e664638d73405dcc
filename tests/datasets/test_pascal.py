"""Tests of ``prepare.py pascal`` on small trees of VOC and SBD, in each form in which SBD is distributed."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from datasets.recipes.pascal import read_mat
from tests.annotations.test_mask_set import reduced
from tests.datasets.class_trees import save_photo
from tests.datasets.printed import assert_done
from util.files import sizes
from util.files.mask_images import read_mask, write_mask
from util.files.palette import voc_palette

VOC_TRAIN = ("2007_000001", "2007_000002", "2008_000003")
VOC_VAL = ("2007_000010", "2007_000011")
SBD_TRAIN = ("2007_000002", "2007_000010", "2008_000020", "2008_000021")  # the first two are VOC's train and val
SBD_VAL = ("2008_000003", "2007_000011", "2008_000030")
TRAIN = [*VOC_TRAIN, "2008_000020", "2008_000021"]
TRAINAUG = [*TRAIN, "2008_000030"]


def mask_of(name: str, of_voc: bool) -> np.ndarray:
    """Return an annotation; VOC's hold 255, which SBD's never do."""
    mask = np.zeros((24, 32), np.uint8)
    number = sum(map(ord, name)) + 7 * of_voc
    mask[5:12, 8:20] = 1 + number % 20
    mask[12, 8:20] = 255 * of_voc
    return mask


def write_names(path: Path, names: tuple[str, ...]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{n}\n" for n in names))


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Return a small VOCdevkit/VOC2012; like the official one, it holds the photos of SBD's images as well."""
    root = tmp_path / "VOCdevkit/VOC2012"
    for seed, name in enumerate(dict.fromkeys(VOC_TRAIN + VOC_VAL + SBD_TRAIN + SBD_VAL)):
        save_photo(root / f"JPEGImages/{name}.jpg", seed, (24, 32))
    for name in VOC_TRAIN + VOC_VAL:
        write_mask(root / f"SegmentationClass/{name}.png", mask_of(name, True))
    write_names(root / "ImageSets/Segmentation/train.txt", VOC_TRAIN)
    write_names(root / "ImageSets/Segmentation/val.txt", VOC_VAL)
    return root


def write_sbd(folder: Path) -> None:
    """Write the official files of SBD."""
    (folder / "cls").mkdir(parents=True)
    for seed, name in enumerate(SBD_TRAIN + SBD_VAL):
        save_photo(folder / f"img/{name}.jpg", 100 + seed, (24, 32))
        save_mat(folder / f"cls/{name}.mat", mask_of(name, False))
    write_names(folder / "train.txt", SBD_TRAIN)
    write_names(folder / "val.txt", SBD_VAL)


def write_sbd_pngs(root: Path, is_grey: bool) -> None:
    """Write PNGs of the masks of both data sets, without lists."""
    sbd_names = SBD_TRAIN + SBD_VAL
    for name in sbd_names + VOC_TRAIN + VOC_VAL:
        path = root / f"SegmentationClassAug/{name}.png"
        write_mask(path, mask_of(name, name not in sbd_names))
        if is_grey:
            Image.fromarray(read_mask(path)).save(path)


@pytest.fixture
def sbd(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes SBD in one of its forms and returns its folder."""

    def write(form: str) -> Path:
        root = tmp_path / form
        if form in ("palette", "grey"):
            write_sbd_pngs(root, is_grey=form == "grey")
        else:
            write_sbd(root / "dataset" if form == "benchmark_RELEASE" else root)
        return root

    return write


def names(out: Path, part: str) -> list[str]:
    return (out / f"ImageSets/Segmentation/{part}.txt").read_text().split()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "made/VOC2012"


def assert_prepared(voc: Path, out: Path) -> None:
    """Check the lists of training, and the masks and photos of all images: VOC's come first."""
    assert (names(out, "train"), names(out, "trainaug")) == (TRAIN, TRAINAUG)
    for name in TRAINAUG + list(VOC_VAL):
        path = out / f"SegmentationClassAug/{name}.png"
        assert np.array_equal(read_mask(path), mask_of(name, name in VOC_TRAIN + VOC_VAL)), name
        with Image.open(path) as image:
            assert image.mode == "P", name
        photo = f"JPEGImages/{name}.jpg"
        assert (out / photo).read_bytes() == (voc / photo).read_bytes()


@pytest.mark.parametrize("form", ["benchmark_RELEASE", "torchvision"])
def test_sets_and_masks_with_the_official_files_of_sbd(prepare, voc: Path, sbd, out: Path, form: str) -> None:
    assert_done(prepare("pascal", "--voc", voc, "--sbd", sbd(form), "--out", out), "train: 5, published 5953: differs")
    assert names(out, "val") == list(VOC_VAL)
    assert_prepared(voc, out)
    shutil.rmtree(voc / "ImageSets")
    words = ("pascal", "--voc", voc, "--out", out.parent / "other")
    assert "with lists of your own prepare nothing" in prepare(*words).error


@pytest.mark.parametrize("form", ["palette", "grey"])
def test_sets_and_masks_with_pngs_of_sbd(prepare, voc: Path, sbd, out: Path, form: str) -> None:
    root = sbd(form)
    words = ("pascal", "--voc", voc, "--sbd", root, "--out", out)
    for earlier in ((), ("--sbd", root)):
        note = "train.txt has VOC's own images alone" if earlier else "without --sbd"
        assert_done(prepare("pascal", "--voc", voc, *earlier, "--out", out), "train: 3, published 5953: differs", note)
        assert names(out, "train") == list(VOC_TRAIN)
        (out / "prepared.json").unlink()
    assert_done(prepare(*words))
    assert [names(out, part) for part in ("trainaug", "val")] == [TRAINAUG, [*VOC_VAL]]
    write_names(root / "train.txt", SBD_TRAIN)  # lists beside the masks
    write_names(root / "val.txt", SBD_VAL)
    assert "is made already" in prepare(*words).output
    assert "was made with other options" in prepare(*words, "--skip-bad").error
    (out / "prepared.json").unlink()
    assert_done(prepare(*words))
    assert_prepared(voc, out)


def save_mat(path: Path, mask: np.ndarray) -> None:
    savemat(path, {"GTcls": {"Segmentation": mask, "Boundaries": 0}})


DAMAGES = {
    "lost": Path.unlink,
    "damaged": lambda mat: mat.write_bytes(b"MATLAB 5.0"),
    "of something else": lambda mat: mat.write_bytes(b"2007_000002\n2007_000010\n"),
    "of nan": lambda mat: save_mat(mat, np.full((24, 32), np.nan)),
    "of complex": lambda mat: save_mat(mat, np.full((24, 32), 1 + 1j)),
    "of (3,)": lambda mat: save_mat(mat, np.ones(3)),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_bad_files_are_named_and_left_out_only_on_demand(
    prepare, voc: Path, sbd, out: Path, damage: Callable[[Path], object]
) -> None:
    root = sbd("torchvision")
    name = "2008_000020"
    damage(root / f"cls/{name}.mat")
    words = ("pascal", "--voc", voc, "--sbd", root, "--out", out)
    assert name in prepare(*words).error
    assert_done(prepare(*words, "--skip-bad"), name)
    assert names(out, "train") == [other for other in TRAIN if other != name]


def test_a_file_of_matlab_that_is_much_larger_unpacked_is_refused(tmp_path: Path, monkeypatch) -> None:
    savemat(tmp_path / "a.mat", {"GTcls": np.zeros((99, 99))}, do_compression=True)
    assert read_mat(tmp_path / "a.mat")["GTcls"].shape == (99, 99)
    monkeypatch.setattr(sizes, "ROOM", 0)
    with pytest.raises(ValueError, match="much larger unpacked"):
        read_mat(tmp_path / "a.mat")


def test_palettes_that_a_program_reduced_are_refused_before_anything_is_written(
    prepare, voc: Path, sbd, out: Path
) -> None:
    for path in (voc / "SegmentationClass").iterdir():
        reduced(voc_palette())(read_mask(path)).save(path)
    error = prepare("pascal", "--voc", voc, "--sbd", sbd("torchvision"), "--out", out).error
    assert "its palette gives the value 1 the colour" in error
    assert not out.exists()
