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
from util.prepare.datasets.recipe import Job, Piece, Plan, published_form
from util.prepare.download import fetch, unpack
from util.prepare.make import add_out

PUBLISHED = {"train": 5953, "trainaug": 10582, "val": 1449}
LISTS = "ImageSets/Segmentation"
MASKS = ("SegmentationClass", "SegmentationClassAug")  # the official folder first
MATLAB = ".mat"
VOC_YEAR = DATASET_YEAR_DICT["2012"]  # torchvision's address and checksum


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
    raw, voc_path, sbd_path = options.out.parent / "raw", options.voc, options.sbd
    if options.download:
        voc_path = fetch(VOC_YEAR["url"], raw / VOC_YEAR["filename"], f"md5:{VOC_YEAR['md5']}")
        sbd_path = fetch(SBDataset.url, raw / SBDataset.filename, f"md5:{SBDataset.md5}")
    voc = find_voc(_unpacked(voc_path, raw))
    sources = [voc] if sbd_path is None else [voc, find_sbd(_unpacked(sbd_path, raw))]
    if options.out.resolve() == voc.photos.parent.resolve():
        raise UserError(f"{options.out}: is the download itself, its lists would be lost; give another --out")
    val, added = dict.fromkeys(voc.sets["val"]), {"train": ()} if sbd_path is None else sources[1].sets
    all_of = {part: [*voc.sets["train"], *sorted({*names})] for part, names in added.items()}
    sets = {part: dict.fromkeys(name for name in names if name not in val) for part, names in all_of.items()}
    sets["val"] = val
    names = dict.fromkeys(name for part in ("trainaug", "train", "val") for name in sets.get(part, ()))
    jobs = []
    for name in names:
        photo = _first([source.photos / f"{name}.jpg" for source in sources])
        mask = _first([source.masks / f"{name}{source.suffix}" for source in sources])
        jobs.append(Job(photo, mask, name, parts=tuple(part for part in sets if name in sets[part])))
    notes = []
    if sbd_path is None:
        notes = ["without --sbd the training sets hold only VOC's own images; published results use SBD as well"]
    elif "train" not in sets:
        lacking = f"SBD's own train.txt and val.txt are not beside {sources[1].masks}"
        notes = [f"no train.txt: {lacking}; put them there, or set data.train_list to trainaug.txt"]
    published = {part: PUBLISHED[part] for part in sets}
    folders = ("JPEGImages", MASKS[1], LISTS)
    return Plan(jobs, read, (), published, notes, tuple(sets), (), *folders, ".jpg")


def find_voc(folder: Path) -> Source:
    """Return VOC 2012 from its folder, or ``VOC2012`` or ``VOCdevkit/VOC2012`` inside; UserError: it lacks files."""
    root = _first([folder / place for place in ("VOCdevkit/VOC2012", "VOC2012", "")])
    masks = _first([root / name for name in MASKS])
    for part in (root / "JPEGImages", masks):
        if not part.is_dir():
            raise UserError(f"{part}: this folder is missing; unpack VOC 2012, and give --voc VOCdevkit/VOC2012")
    sets = {name: read_names(root / LISTS / f"{name}.txt") for name in ("train", "val")}
    return Source(root / "JPEGImages", masks, ".png", sets)


def find_sbd(folder: Path) -> Source:
    """Return SBD from a folder: ``benchmark_RELEASE``, torchvision's layout, or ``SegmentationClassAug`` with PNGs.

    PNGs without the list ``train.txt`` are all of ``trainaug``, and there is no ``train``. UserError: it holds no SBD.
    """
    root = _first([folder / place for place in ("benchmark_RELEASE/dataset", "dataset", "")])
    official = (root / "cls").is_dir()
    masks, suffix = (root / "cls", MATLAB) if official else (_first([folder / MASKS[1], folder]), ".png")
    names = [path.stem for path in masks.glob(f"*{suffix}")]
    if not names:
        raise UserError(f"{folder}: no SBD here; give --sbd benchmark_RELEASE, or a SegmentationClassAug of PNGs")
    train, val = (_first([masks / f"{part}.txt", masks.parent / f"{part}.txt"]) for part in ("train", "val"))
    sets: dict[str, Sequence[str]] = {"trainaug": names}
    if official or train.is_file():
        listed = read_names(train)
        sets = {"train": listed, "trainaug": [*listed, *(read_names(val) if official or val.is_file() else ())]}
    return Source(root / "img", masks, suffix, sets)


def read(job: Job, image: np.ndarray) -> Iterator[Piece]:
    """Yield the mask of either data set; palette PNGs are linked; UserError: it is bad, or does not fit its photo."""
    linked = False
    if job.source.suffix == MATLAB:
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


def _unpacked(path: Path, raw: Path) -> Path:
    """Return a folder as it is; unpack an archive into ``raw`` and return that."""
    if not path.is_file():
        return path
    unpack(path, raw)
    return raw
