"""Fixtures of the tests of prepare.py: a runner of the command, and small trees of VOC and SBD in each form."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.outcome import Outcome, run_script
from tests.prepare.trees import (
    SBD_TRAIN,
    SBD_VAL,
    VOC_TRAIN,
    VOC_VAL,
    photo,
    save_mask,
    save_mat,
    sbd_mask,
    voc_mask,
    write_names,
)


@pytest.fixture
def prepare(capfd: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Return a function that runs ``prepare.py`` with arguments and returns its exit code and output."""

    def call(*arguments: object) -> Outcome:
        return run_script("prepare.py", arguments, capfd, monkeypatch)

    return call


@pytest.fixture(scope="session")
def voc_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache folder for the index of the shared VOC, which several tests read."""
    return tmp_path_factory.mktemp("voc_cache")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Return a small VOCdevkit/VOC2012; like the official one, it holds the photos of SBD's images as well."""
    root = tmp_path / "VOCdevkit" / "VOC2012"
    for seed, name in enumerate(dict.fromkeys(VOC_TRAIN + VOC_VAL + SBD_TRAIN + SBD_VAL)):
        (root / "JPEGImages").mkdir(parents=True, exist_ok=True)
        (root / "JPEGImages" / f"{name}.jpg").write_bytes(photo(seed))
    for name in VOC_TRAIN + VOC_VAL:
        save_mask(root / "SegmentationClass" / f"{name}.png", voc_mask(name))
    write_names(root / "ImageSets/Segmentation/train.txt", VOC_TRAIN)
    write_names(root / "ImageSets/Segmentation/val.txt", VOC_VAL)
    return root


@pytest.fixture
def sbd(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes SBD in one of its forms and returns its folder."""

    def write(form: str) -> Path:
        root = tmp_path / form
        names = SBD_TRAIN + SBD_VAL
        if form in ("benchmark_RELEASE", "torchvision"):
            inner = root / "dataset" if form == "benchmark_RELEASE" else root
            for seed, name in enumerate(names):
                save_mat(inner / "cls" / f"{name}.mat", sbd_mask(name))
                (inner / "img").mkdir(exist_ok=True)
                (inner / "img" / f"{name}.jpg").write_bytes(photo(100 + seed))
            write_names(inner / "train.txt", SBD_TRAIN)
            write_names(inner / "val.txt", SBD_VAL)
            return root
        for name in names + VOC_TRAIN + VOC_VAL:
            mask = sbd_mask(name) if name in names else voc_mask(name)
            save_mask(root / "SegmentationClassAug" / f"{name}.png", mask, palette=form == "palette")
        return root

    return write
