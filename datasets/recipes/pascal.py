"""Prepare PASCAL VOC 2012 with SBD's masks for PASCAL-5i.

Creates a folder in VOC's layout: JPEGImages (links), SegmentationClassAug (palette PNGs: links to VOC's, converted from
SBD's) and ImageSets/Segmentation with

  train.txt     VOC's train and SBD's train without VOC's val   (5953 images when complete; PFENet, BAM, Sym-Net, ...)
  trainaug.txt  the same and SBD's val                          (10582 images; HSNet, DCAMA)
  val.txt       VOC's val                                       (1449 images, for testing)

If both annotate an image, VOC's mask is used.
"""

import argparse
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from PIL import Image

from annotations.mask_formats import as_indices
from datasets.recipes.recipe import MaskJob, Piece, Plan, Recipe, check_masks, published_form
from util.data.lists.index import count_classes
from util.data.lists.listed import read_names
from util.files.errors import UserError
from util.files.images import header_of
from util.files.mask_images import fitted_mask, read_mask
from util.files.sizes import largest_content

CLASSES = 20
PUBLISHED = {"train": 5953, "trainaug": 10582, "val": 1449}  # images of the complete lists
LISTS = "ImageSets/Segmentation"
MASKS = ("SegmentationClass", "SegmentationClassAug")  # the official folder first
MAT_HEADER = 128  # bytes of a file of MATLAB
MAT_COMPRESSED = 15  # the kind of a part


class Source(NamedTuple):
    """One of the two data sets: folders of photos and masks, and the image names of its sets."""

    photos: Path
    masks: Path
    suffix: str  # of the masks
    sets: Mapping[str, Sequence[str]]


def find(options: argparse.Namespace) -> Plan:
    """Return the plan: an image's photo and mask are VOC's if it has them, else SBD's; UserError: a file is bad."""
    voc = find_voc(options.voc)
    sbd = None if options.sbd is None else find_sbd(options.sbd)
    if options.out.resolve() == voc.photos.parent.resolve():
        raise UserError(f"{options.out}: is the download itself, its lists would be lost; give another --out")
    sets = _training_sets(voc, sbd) | {"val": dict.fromkeys(voc.sets["val"])}
    jobs = _jobs([voc, sbd] if sbd else [voc], sets)
    check_masks(jobs)
    return Plan(
        jobs,
        read,
        published={part: PUBLISHED[part] for part in sets},
        notes=_notes_on_sets(sbd),
        parts=tuple(sets),
        images="JPEGImages",
        masks=MASKS[1],
        lists=LISTS,
        suffix=".jpg",
    )


def _training_sets(voc: Source, sbd: Source | None) -> dict[str, dict[str, None]]:
    """Return the image names of each set: VOC's, then SBD's by name, without those that are for testing."""
    sbd_sets = {"train": (), **({} if sbd is None else sbd.sets)}
    val = {*voc.sets["val"]}
    sets = {}
    for part, sbd_names in sbd_sets.items():
        names = [*voc.sets["train"], *sorted({*sbd_names})]
        sets[part] = dict.fromkeys(name for name in names if name not in val)
    return sets


def _jobs(sources: Sequence[Source], sets: Mapping[str, Mapping[str, None]]) -> list[MaskJob]:
    """Return the jobs of all images, whose photo and mask are those of the first source that has them."""
    names = (name for part in ("trainaug", "train", "val") for name in sets.get(part, ()))
    jobs = []
    for name in dict.fromkeys(names):
        photo = _first([source.photos / f"{name}.jpg" for source in sources])
        mask = _first([source.masks / f"{name}{source.suffix}" for source in sources])
        parts = tuple(part for part in sets if name in sets[part])
        jobs.append(MaskJob(photo, mask, name, parts=parts))
    return jobs


def _notes_on_sets(sbd: Source | None) -> list[str]:
    """Return what a user should know of the training sets."""
    if sbd is None:
        return ["without --sbd the training sets hold only VOC's own images; published results use SBD as well"]
    if "train" in sbd.sets:
        return []
    missing = f"SBD's own train.txt and val.txt are not beside {sbd.masks}"
    whole = "--set data.train_list=ImageSets/Segmentation/trainaug.txt, which has SBD's val, too"
    return [f"train.txt has VOC's own images alone: {missing}; put them there, or train with {whole}"]


def find_voc(folder: Path) -> Source:
    """Return VOC 2012 from its folder, or ``VOC2012`` or ``VOCdevkit/VOC2012`` inside; UserError: it lacks files."""
    root = _first([folder / place for place in ("VOCdevkit/VOC2012", "VOC2012", "")])
    photos = root / "JPEGImages"
    masks = _first([root / name for name in MASKS])
    for part in (photos, masks, root / LISTS):
        if not part.is_dir():
            raise UserError(
                f"{part}: this folder of VOC 2012 is missing; give --voc VOCdevkit/VOC2012",
                fix="with lists of your own prepare nothing: set data.root, data.train_list and data.test_list",
            )
    sets = {name: read_names(root / LISTS / f"{name}.txt") for name in ("train", "val")}
    return Source(photos, masks, ".png", sets)


def find_sbd(folder: Path) -> Source:
    """Return SBD from a folder: ``benchmark_RELEASE``, torchvision's layout, or ``SegmentationClassAug`` with PNGs.

    PNGs without the list ``train.txt`` are all of ``trainaug``, and none of ``train``. UserError: it holds no SBD.
    """
    root = _first([folder / place for place in ("benchmark_RELEASE/dataset", "dataset", "")])
    is_official = (root / "cls").is_dir()
    masks = root / "cls" if is_official else _first([folder / MASKS[1], folder])
    suffix = ".mat" if is_official else ".png"
    names = [path.stem for path in masks.glob(f"*{suffix}")]
    if not names:
        raise UserError(f"{folder}: no SBD here; give --sbd benchmark_RELEASE, or a SegmentationClassAug of PNGs")
    train_list = _first([masks / "train.txt", masks.parent / "train.txt"])
    val_list = _first([masks / "val.txt", masks.parent / "val.txt"])
    if not is_official and not train_list.is_file():
        return Source(root / "img", masks, suffix, {"trainaug": names})
    train = read_names(train_list)
    val = read_names(val_list) if is_official or val_list.is_file() else ()
    return Source(root / "img", masks, suffix, {"train": train, "trainaug": [*train, *val]})


def read(job: MaskJob, image: np.ndarray) -> Piece:
    """Return the mask of either data set; palette PNGs are linked; UserError: it is bad, or does not fit its photo."""
    linked = False
    if job.source.suffix == ".mat":
        with published_form(job.source):
            content = read_mat(job.source)
            mask = as_indices(np.asarray(content["GTcls"].Segmentation), job.source)
    else:
        mask = read_mask(job.source)
        with Image.open(job.source) as stored:
            linked = stored.mode == "P"
    mask = fitted_mask(mask, False, header_of(job.photo), job.source)
    count_classes(mask, job.source, classes=CLASSES)
    return Piece(job.source if linked else mask)


def read_mat(path: Path) -> dict[str, Any]:
    """Return the content of a file of MATLAB; ValueError: as ``_check_size``; others of damage, of any kind."""
    from scipy.io import loadmat  # imported where it is called: it would delay every command

    with path.open("rb") as file:
        _check_size(file, largest_content(path))
    return loadmat(path, squeeze_me=True, struct_as_record=False)


def _check_size(file: BinaryIO, limit: int) -> None:
    """Refuse (ValueError) a file of MATLAB that is larger unpacked than the limit."""
    header = file.read(MAT_HEADER)
    form = ">II" if header.endswith(b"MI") else "<II"  # of the kind of a part and its length
    while len(tag := file.read(struct.calcsize(form))) == struct.calcsize(form):
        kind, length = struct.unpack(form, tag)
        part = file.read(length)
        if kind == MAT_COMPRESSED:
            limit -= len(zlib.decompressobj().decompress(part, limit + 1))
        if limit < 0:
            raise ValueError("it is much larger unpacked")


def _first(paths: list[Path]) -> Path:
    """Return the first path that exists, else the last."""
    return next((path for path in paths if path.exists()), paths[-1])


RECIPE = Recipe(
    "pascal",
    __doc__,
    {
        "voc": "VOC2012 folder",
        "sbd": "SBD folder in any form; default VOC alone",
    },
    find,
    optional=("sbd",),
    out="data/VOC2012",
    shares_folder=True,
)
