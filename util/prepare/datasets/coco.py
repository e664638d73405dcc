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
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from util.data.images.orientation import UPRIGHT, turned
from util.data.images.read import header_of, read_image, write_mask
from util.errors import UserError
from util.files import REPOSITORY, fingerprint, link, write_atomically
from util.formats.annotations import Photo
from util.formats.coco import class_table, read_annotations
from util.formats.painting import class_mask
from util.parallel import attempt, parallel_map
from util.prepare.common import add_root_options, already_done, compare_count, keep_good, mark_done
from util.prepare.download import fetch, unpack

SPLITS = {"train2014": 82081, "val2014": 40137}  # images with annotations when complete
PHOTOS = {"train2014": 82783, "val2014": 40504}
OFFICIAL = "http://images.cocodataset.org"  # without checksums; a zip file has one for each of its members
ANNOTATIONS = "annotations/instances_{split}.json"
CONFIG = REPOSITORY / "config/coco/coco.yaml"
RULES = 1  # raise when the same annotations give other masks
MADE_FROM = "made_from.txt"  # fingerprint in a split's folder of masks; masks that are older than it are outdated


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of train2014, val2014 and annotations", "data/COCO2014")
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
    made_from = fingerprint(files.values(), RULES, root.resolve())
    stamp = already_done(out, made_from, [out / split for split in SPLITS])
    if stamp and (options.skip_bad or not any(stamp["left_out"].values())) and _is_complete(out):
        print(f"{out}: made from {root} already; nothing to do")
        _print_sizes(stamp)
        return 0
    read = {split: _read_photos(path, split) for split, path in files.items()}
    gc.freeze()  # forked processes share the annotations instead of copying them
    for split in SPLITS:
        link(root / split, out / split)  # does nothing if --out is --root
    good = {}
    for split, (photos, table) in read.items():
        make = partial(_make_mask, photos=root / split, masks=_mask_folder(out, split), table=table)
        good[split] = _make_masks(photos, make, out, split, fingerprint([files[split]], RULES), options.skip_bad)
    for split, names in good.items():
        write_atomically(_list_file(out, split), "".join(f"{split}/{name}\n" for name in names))
    facts = {
        "images": {split: len(good[split]) for split in SPLITS},
        "left_out": {split: len(read[split][0]) - len(good[split]) for split in SPLITS},
    }
    mark_done(out, made_from, **facts)
    gc.unfreeze()
    print(f"{out}: ready")
    _print_sizes(facts)
    return 0


def _print_sizes(facts: dict[str, Any]) -> None:
    """Print the number of images of each split, of published ones, and of omitted ones."""
    for split, published in SPLITS.items():
        print("  " + compare_count(f"{split}: images with annotations", facts["images"][split], published))
        if facts["left_out"][split]:
            print(f"  {split}: {facts['left_out'][split]} omitted; without --skip-bad they are tried again")


def _list_file(out: Path, split: str) -> Path:
    return out / "lists" / f"{split}.txt"


def _mask_folder(out: Path, split: str) -> Path:
    return out / "masks" / split


def _mask_name(photo: Photo) -> str:
    return f"{Path(photo.name).stem}.png"


def _is_complete(out: Path) -> bool:
    """Return whether the lists exist and each of their images has a mask."""
    try:
        for split in SPLITS:
            masks = {path.stem for path in _mask_folder(out, split).iterdir()}
            if not masks.issuperset(Path(line).name for line in _list_file(out, split).read_text().split()):
                return False
    except OSError:
        return False
    return True


def _read_photos(path: Path, split: str) -> tuple[tuple[Photo, ...], dict[int, int]]:
    """Return the annotated photos of a split and category id -> class id, after checking that they are COCO's."""
    print(f"reading {path}")
    annotations = read_annotations(path)
    classes = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))["data"]["classes"]
    if list(annotations.categories.values()) != classes:
        raise UserError(
            f"{path}: its {len(annotations.categories)} categories are not the 80 of COCO in {CONFIG.name}; "
            f"for your own data set: python prepare.py custom --annotations {path} --images DIR"
        )
    photos = tuple(photo for photo in annotations.photos if photo.instances)
    return photos, class_table(annotations.categories)


def _make_masks(
    photos: Sequence[Photo], make: Callable[[Photo], None], out: Path, split: str, origin: str, skip_bad: bool
) -> list[str]:
    """Make the missing masks and return the names of the images that have a mask."""
    folder = _mask_folder(out, split)
    marker = folder / MADE_FROM
    if not marker.exists() or marker.read_text() != origin:
        _list_file(out, split).unlink(missing_ok=True)
        write_atomically(marker, origin)
    since = marker.stat().st_mtime_ns
    existing = {path.name for path in folder.iterdir() if path.stat().st_mtime_ns >= since}
    missing = [photo for photo in photos if _mask_name(photo) not in existing]
    bad: set[str] = set()
    if missing:
        names = [photo.name for photo in missing]
        results = parallel_map(partial(attempt, make), missing, f"masks {split}")
        bad = set(names) - keep_good(names, results, skip_bad).keys()
    return [Path(photo.name).stem for photo in photos if photo.name not in bad]


def _make_mask(photo: Photo, photos: Path, masks: Path, table: dict[int, int]) -> None:
    """Check one photo and write its mask."""
    read_image(photos / photo.name)
    shape, orientation = header_of(photos / photo.name)
    if shape != (photo.height, photo.width):
        raise UserError(
            f"{photos / photo.name}: is {shape[0]} x {shape[1]} (height, width), its annotations are for "
            f"{photo.height} x {photo.width}; restore it"
        )
    mask = turned(class_mask(photo, table), orientation)  # COCO's annotations are of the stored pixels
    write_mask(masks / _mask_name(photo), mask, stated=orientation != UPRIGHT)


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
