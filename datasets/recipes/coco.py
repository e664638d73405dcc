"""Prepare MS COCO 2014 for COCO-20i: masks of class indices from the official annotations.

Reads annotations/instances_{train,val}2014.json in --root and their photos, all or a part, in train2014 and val2014 or,
by their names of 2017, in train2017 and val2017. It creates

  train2014, val2014     links to the photos
  masks/<split>/*.png    palette PNGs: the 80 categories by ascending id as 1..80, crowd regions as 255
  lists/<split>.txt      the images that have annotations, by id   (82081 and 40137 when complete)

Instances cover crowd regions, and of overlapping instances the one with fewer pixels is on top. Empty polygons and
those without area cover nothing.
"""

import argparse
import gc
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from annotations.annotation import class_mask
from annotations.coco import read_annotations
from datasets.recipes.recipe import MaskJob, Piece, Plan, Recipe, classes_of
from util.files.errors import UserError
from util.files.images import header_of, turned
from util.files.output_folders import link

SPLITS = {"train2014": 82081, "val2014": 40137}  # images when complete
SPLITS_2017 = ("train2017", "val2017")


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of COCO; UserError: a file is missing, or not COCO's."""
    root = options.root
    needed = [json_of(root, split) for split in SPLITS]
    has_folders = _has_photos(root, SPLITS)
    if not has_folders and not _has_photos(root, SPLITS_2017):  # which are looked for there if a split has no folder
        needed += [root / split for split in SPLITS]
    for path in needed:
        if not path.exists():
            raise UserError(f"{path}: is missing; unpack COCO's official files into {root}")
    if options.out.resolve() == root.resolve() and not has_folders:
        raise UserError(
            f"--out {options.out}: is the download (--root); name another folder, which gets links to the photos"
        )
    jobs = read_jobs(root, options.out)
    return Plan(jobs, draw, published=SPLITS, parts=tuple(SPLITS), images="", suffix=".jpg")


def _has_photos(root: Path, splits: Iterable[str]) -> bool:
    """Return whether each split has its folder of photos."""
    return all((root / split).is_dir() for split in splits)


def json_of(root: Path, split: str) -> Path:
    """Return the annotation file of a split."""
    return root / f"annotations/instances_{split}.json"


def read_jobs(root: Path, out: Path) -> list[MaskJob]:
    """Return the jobs of the annotated photos, with the table from category to class id; link the photos' folders."""
    jobs = []
    for split in SPLITS:
        path = json_of(root, split)
        print(f"reading {path}")
        annotations = read_annotations(path)
        if list(annotations.categories.values()) != classes_of("coco"):
            raise UserError(f"{path}: its categories are not COCO's; for a data set of your own: prepare.py custom")
        class_ids = {category: class_id for class_id, category in enumerate(annotations.categories, 1)}
        for photo in annotations.annotated:
            photo_file = photo_of(root, split, photo.name)
            name = f"{split}/{Path(photo.name).stem}"
            jobs.append(MaskJob(photo_file, (photo, class_ids), name, parts=(split,)))
    for split in SPLITS:
        folder = root / split
        if folder.is_dir():  # else each photo is linked
            link(folder, out / split)  # does nothing if --out is --root
    gc.freeze()  # forked processes share the annotations instead of copying them
    return jobs


def photo_of(root: Path, split: str, name: str) -> Path:
    """Return the file of a photo: in the folder of its split, else by its number in one of 2017."""
    path = root / split / name
    if (root / split).is_dir():
        return path
    number = name.rpartition("_")[2]
    places = (root / split_2017 / number for split_2017 in SPLITS_2017)
    return next((place for place in places if place.exists()), path)


def draw(job: MaskJob, image: np.ndarray) -> Piece:
    """Return the mask of a photo's annotations, which are of its stored pixels; UserError: they do not fit it."""
    photo, class_ids = job.source
    frame = header_of(job.photo)
    stated = (photo.height, photo.width)
    if frame.size != stated:
        raise UserError(f"{job.photo}: is {frame.size} (height, width), its annotations are for {stated}; restore it")
    return Piece(turned(class_mask(photo, class_ids), frame.orientation))


RECIPE = Recipe(
    "coco",
    __doc__,
    {"root": "folder of train2014, val2014 and annotations"},
    find,
    out="data/COCO2014",
    shares_folder=True,
)
