"""Prepare MS COCO 2014 for COCO-20i: masks of class indices from the official annotations.

Reads train2014/, val2014/ and annotations/instances_{train,val}2014.json in --root, all or a part of COCO, and creates

  train2014, val2014     links to the photos
  masks/<split>/*.png    palette PNGs: the 80 categories by ascending id as 1..80, crowd regions as 255
  lists/<split>.txt      the images that have annotations, by id   (82081 and 40137 when complete)

Instances cover crowd regions, and of overlapping instances the one with fewer pixels is on top. Empty polygons and
those without area cover nothing. After an interruption, run the command again: it continues.
"""

from __future__ import annotations

import argparse
import gc
from functools import partial
from pathlib import Path

from util.data.images.orientation import UPRIGHT, turned
from util.data.images.read import header_of, read_image, write_mask
from util.errors import UserError
from util.files import link
from util.formats.annotations import Photo
from util.formats.coco import class_table, read_annotations
from util.formats.painting import class_mask
from util.prepare.common import add_common_options
from util.prepare.datasets.recipe import MASKS, Made, Plan, classes_of, make
from util.prepare.download import fetch, unpack

SPLITS = {"train2014": 82081, "val2014": 40137}  # images with annotations when complete
PHOTOS = {"train2014": 82783, "val2014": 40504}
OFFICIAL = "http://images.cocodataset.org"  # without checksums; a zip file has one for each of its members
ANNOTATIONS = "annotations/instances_{split}.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--root", type=Path, required=True, help="folder of train2014, val2014 and annotations")
    add_common_options(parser, "data/COCO2014")
    parser.add_argument(
        "--download", action="store_true", help="download missing files to --root from the official site (20 GB)"
    )


def run(options: argparse.Namespace) -> int:
    """Prepare COCO-20i's data and print the number of images of each split.

    Raises:
        UserError: a file is missing or damaged, or files do not fit together; no incomplete image is listed then.
    """
    root, out = options.root, options.out
    if options.download:
        _download(root)
    files = {split: root / ANNOTATIONS.format(split=split) for split in SPLITS}
    for needed in [*files.values(), *(root / split for split in SPLITS)]:
        if not needed.exists():
            raise UserError(f"{needed}: is missing; unpack COCO's official files into {root}, or add --download")
    plan = Plan(
        partial(_read_photos, files, out),
        partial(_make_mask, root=root),
        files.values(),
        (root.resolve(),),
        (),
        tuple(SPLITS),
        SPLITS,
        _outputs,
    )
    make(plan, out, options.skip_bad)
    gc.unfreeze()
    return 0


def _outputs(line: str) -> tuple[str, str]:
    return f"{MASKS}/{line}.png", line.split("/")[0]


def _read_photos(files: dict[str, Path], out: Path) -> list[tuple[str, Photo, dict[int, int]]]:
    """Return the annotated photos of all splits with the table from category to class id; link the photos' folders.

    Raises:
        UserError: the categories are not COCO's.
    """
    jobs: list[tuple[str, Photo, dict[int, int]]] = []
    for split, path in files.items():
        print(f"reading {path}")
        annotations = read_annotations(path)
        if list(annotations.categories.values()) != classes_of("coco"):
            raise UserError(
                f"{path}: its {len(annotations.categories)} categories are not the 80 of COCO in config/coco; "
                f"for your own data set: python prepare.py custom --annotations {path} --images DIR"
            )
        table = class_table(annotations.categories)
        jobs += [(split, photo, table) for photo in annotations.photos if photo.instances]
    for split, path in files.items():
        link(path.parents[1] / split, out / split)  # does nothing if --out is --root
    gc.freeze()  # forked processes share the annotations instead of copying them
    return jobs


def _make_mask(job: tuple[str, Photo, dict[int, int]], out: Path, since: int, root: Path) -> Made:
    """Check one photo and write its mask, unless it is up to date."""
    split, photo, table = job
    line, path = f"{split}/{Path(photo.name).stem}", root / split / photo.name
    target = out / _outputs(line)[0]
    if not (target.exists() and target.stat().st_mtime_ns >= since):
        read_image(path)
        shape, orientation = header_of(path)
        if shape != (photo.height, photo.width):
            raise UserError(
                f"{path}: is {shape[0]} x {shape[1]} (height, width), its annotations are for "
                f"{photo.height} x {photo.width}; restore it"
            )
        mask = turned(class_mask(photo, table), orientation)  # COCO's annotations are of the stored pixels
        write_mask(target, mask, stated=orientation != UPRIGHT)
    return Made(((split, line),))


def _download(root: Path) -> None:
    """Download and unpack the missing files; the archives stay."""
    wanted = {ANNOTATIONS.format(split=split) for split in SPLITS}
    if not all((root / name).exists() for name in wanted):
        name = "annotations_trainval2014.zip"
        unpack(fetch(f"{OFFICIAL}/annotations/{name}", root / name), root, wanted.__contains__)
    for split, count in PHOTOS.items():
        if sum(1 for _ in (root / split).glob("*.jpg")) < count:
            archive = fetch(f"{OFFICIAL}/zips/{split}.zip", root / f"{split}.zip")
            unpack(archive, root, partial(_is_inside, folder=f"{split}/"))
    print(f"{root}: complete; its zip files can be removed")


def _is_inside(name: str, folder: str) -> bool:
    return name.startswith(folder)
