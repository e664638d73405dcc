"""Prepare PASCAL VOC 2012 with SBD's masks for PASCAL-5i.

Creates a folder in VOC's layout: JPEGImages (links), SegmentationClassAug (palette PNGs: links to VOC's, converted from
SBD's) and ImageSets/Segmentation with

  train.txt     VOC's train and SBD's train without VOC's val   (5953 images when complete; PFENet, BAM, Sym-Net, ...)
  trainaug.txt  the same and SBD's val                          (10582 images; HSNet, DCAMA)
  val.txt       VOC's val                                       (1449 images, for testing)

If both annotate an image, VOC's mask is used. An archive in place of a folder is first unpacked beside --out. After an
interruption, run the command again: it continues.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from torchvision.datasets import SBDataset
from torchvision.datasets.voc import DATASET_YEAR_DICT

from util.data.images.read import fitted_mask, header_of, read_mask
from util.data.lists.index import count_classes, read_names
from util.errors import UserError
from util.prepare.datasets.recipe import MaskJob, Piece, Plan, published_form
from util.prepare.download import fetch, unpack
from util.prepare.make import add_out

PUBLISHED = {"train": 5953, "trainaug": 10582, "val": 1449}
LISTS = "ImageSets/Segmentation"
MASKS = ("SegmentationClass", "SegmentationClassAug")  # the official folder first


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--voc", type=Path, help="VOC2012 folder, or the official tar")
    source.add_argument("--download", action="store_true", help="download both from the official addresses (3.4 GB)")
    parser.add_argument("--sbd", type=Path, help="SBD folder in any form, or the official tgz; default VOC alone")
    add_out(parser, "data/VOC2012")


class Source(NamedTuple):
    """One of the two data sets: folders of photos and masks, and the image names of its sets."""

    photos: Path
    masks: Path
    suffix: str  # of the masks
    sets: Mapping[str, Sequence[str]]


def find(options: argparse.Namespace) -> Plan:
    """Return the plan: an image's photo and mask are VOC's if it has them, else SBD's; UserError: a file is bad."""
    raw, given = options.out.parent / "raw", [options.voc, options.sbd]
    if options.download:  # torchvision's addresses and checksums
        url, name, md5 = (DATASET_YEAR_DICT["2012"][key] for key in ("url", "filename", "md5"))
        known = ((url, name, md5), (SBDataset.url, SBDataset.filename, SBDataset.md5))
        given = [fetch(url, raw / name, f"md5:{md5}") for url, name, md5 in known]
    folders = [unpack(path, raw) if path.is_file() else path for path in given if path is not None]
    sources = [find_source(folder) for find_source, folder in zip((find_voc, find_sbd), folders)]
    voc, *sbd = sources
    if options.out.resolve() == voc.photos.parent.resolve():
        raise UserError(f"{options.out}: is the download itself, its lists would be lost; give another --out")
    val, added = dict.fromkeys(voc.sets["val"]), sbd[0].sets if sbd else {"train": ()}
    all_of = {part: [*voc.sets["train"], *sorted({*names})] for part, names in added.items()}
    sets = {part: dict.fromkeys(name for name in names if name not in val) for part, names in all_of.items()}
    sets["val"] = val
    jobs = []
    for name in dict.fromkeys(name for part in ("trainaug", "train", "val") for name in sets.get(part, ())):
        photo = _first([source.photos / f"{name}.jpg" for source in sources])
        mask = _first([source.masks / f"{name}{source.suffix}" for source in sources])
        jobs.append(MaskJob(photo, mask, name, parts=tuple(part for part in sets if name in sets[part])))
    notes = []
    if not sbd:
        notes = ["without --sbd the training sets hold only VOC's own images; published results use SBD as well"]
    elif "train" not in sets:
        lacking = f"SBD's own train.txt and val.txt are not beside {sbd[0].masks}"
        notes = [f"no train.txt: {lacking}; put them there, or set data.train_list to trainaug.txt"]
    published = {part: PUBLISHED[part] for part in sets}
    return Plan(jobs, read, (), published, notes, tuple(sets), (), "JPEGImages", MASKS[1], LISTS, ".jpg")


def find_voc(folder: Path) -> Source:
    """Return VOC 2012 from its folder, or ``VOC2012`` or ``VOCdevkit/VOC2012`` inside; UserError: it lacks files."""
    root = _first([folder / place for place in ("VOCdevkit/VOC2012", "VOC2012", "")])
    photos, masks = root / "JPEGImages", _first([root / name for name in MASKS])
    for part in (photos, masks):
        if not part.is_dir():
            raise UserError(f"{part}: this folder is missing; unpack VOC 2012, and give --voc VOCdevkit/VOC2012")
    return Source(photos, masks, ".png", {name: read_names(root / LISTS / f"{name}.txt") for name in ("train", "val")})


def find_sbd(folder: Path) -> Source:
    """Return SBD from a folder: ``benchmark_RELEASE``, torchvision's layout, or ``SegmentationClassAug`` with PNGs.

    PNGs without the list ``train.txt`` are all of ``trainaug``, and there is no ``train``. UserError: it holds no SBD.
    """
    root = _first([folder / place for place in ("benchmark_RELEASE/dataset", "dataset", "")])
    official = (root / "cls").is_dir()
    masks, suffix = (root / "cls", ".mat") if official else (_first([folder / MASKS[1], folder]), ".png")
    if not (names := [path.stem for path in masks.glob(f"*{suffix}")]):
        raise UserError(f"{folder}: no SBD here; give --sbd benchmark_RELEASE, or a SegmentationClassAug of PNGs")
    train, val = (_first([masks / f"{part}.txt", masks.parent / f"{part}.txt"]) for part in ("train", "val"))
    sets: dict[str, Sequence[str]] = {"trainaug": names}
    if official or train.is_file():
        listed = read_names(train)
        sets = {"train": listed, "trainaug": [*listed, *(read_names(val) if official or val.is_file() else ())]}
    return Source(root / "img", masks, suffix, sets)


def read(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield the mask of either data set; palette PNGs are linked; UserError: it is bad, or does not fit its photo."""
    linked = False
    if job.source.suffix == ".mat":
        from scipy.io import loadmat

        with published_form(job.source):
            content = loadmat(job.source, squeeze_me=True, struct_as_record=False)
            mask = np.asarray(content["GTcls"].Segmentation).astype(np.uint8)
    else:
        mask = read_mask(job.source)
        with Image.open(job.source) as stored:
            linked = stored.mode == "P"
    mask = fitted_mask(mask, False, *header_of(job.photo), job.source)
    count_classes(mask, job.source, classes=20)
    yield Piece(job.line, job.source if linked else mask)


def _first(paths: list[Path]) -> Path:
    """Return the first path that exists, else the last."""
    return next((path for path in paths if path.exists()), paths[-1])
