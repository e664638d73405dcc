"""Fixtures of the tests of prepare.py: a runner of the command, and small trees of VOC and SBD in each form."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.outcome import Outcome, run_script
from tests.paths import REPOSITORY
from tests.prepare import trees


@pytest.fixture
def prepare(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs ``prepare.py`` with arguments and returns its exit code and output."""

    def call(*arguments: object) -> Outcome:
        return run_script("prepare.py", arguments, capfd, monkeypatch)

    return call


@pytest.fixture
def made(prepare: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Outcome]:
    """Return a function that makes a data set of a recipe from a folder: ``data`` and ``config`` in ``tmp_path``."""

    def call(name: str, root: Path, *more: object) -> Outcome:
        words = ("--root", root, "--out", tmp_path / "data", "--config-dir", tmp_path / "config")
        return prepare(name, *words, *more)

    return call


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a project folder with the configs that data sets of one's own inherit from; the current folder."""
    root = tmp_path / "project"
    for part in ("model", "encoder"):
        shutil.copytree(REPOSITORY / "config" / part, root / "config" / part)
    for file in ("default.yaml", "protocols.yaml"):
        shutil.copy(REPOSITORY / "config" / file, root / "config" / file)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Return a small VOCdevkit/VOC2012; like the official one, it holds the photos of SBD's images as well."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for seed, name in enumerate(dict.fromkeys(trees.VOC_TRAIN + trees.VOC_VAL + trees.SBD_TRAIN + trees.SBD_VAL)):
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(trees.photo(seed))
    for name in trees.VOC_TRAIN + trees.VOC_VAL:
        trees.save_mask(root / "SegmentationClass" / f"{name}.png", trees.voc_mask(name))
    trees.write_names(root / "ImageSets/Segmentation/train.txt", trees.VOC_TRAIN)
    trees.write_names(root / "ImageSets/Segmentation/val.txt", trees.VOC_VAL)
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes SBD in one of its forms and returns its folder."""

    def write(form: str) -> Path:
        root = tmp_path / form
        names = trees.SBD_TRAIN + trees.SBD_VAL
        if form in ("benchmark_RELEASE", "torchvision"):
            inner = root / "dataset" if form == "benchmark_RELEASE" else root
            for seed, name in enumerate(names):
                trees.save_mat(inner / "cls" / f"{name}.mat", trees.sbd_mask(name))
                (inner / "img").mkdir(exist_ok=True)
                (inner / "img" / f"{name}.jpg").write_bytes(trees.photo(100 + seed))
            trees.write_names(inner / "train.txt", trees.SBD_TRAIN)
            trees.write_names(inner / "val.txt", trees.SBD_VAL)
            return root
        for name in names + trees.VOC_TRAIN + trees.VOC_VAL:
            mask = trees.sbd_mask(name) if name in names else trees.voc_mask(name)
            trees.save_mask(root / "SegmentationClassAug" / f"{name}.png", mask, palette=form == "palette")
        return root

    return write
