"""Prepare LVIS-92i: masks of 920 of LVIS's classes in ten folds of 92.

--root holds coco/train2017 and coco/val2017 (or both folders themselves) and either lvis_val.pkl, as published with the
benchmark, or LVIS's own lvis_v1_val.json. A mask is the union of a class's instances in a photo. A class needs two
photos; fold f has the classes f, f + 10, ... in the order of the file. Creates images (links), masks, lists/test.txt
and config/lvis92i: the data set is for tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.files import read_json
from util.prepare.datasets import regions
from util.prepare.datasets.recipe import Plan
from util.prepare.datasets.regions import Benchmark, Region

ROOT = "folder of the photos and the annotations"
PICKLE, JSON = "lvis_val.pkl", "lvis_v1_val.json"
BENCHMARK = Benchmark("lvis92i", "LVIS-92i", 10, "class_in_turn", "with_replacement", 2300, 920)
MIN_PHOTOS = 2  # of a class: a query and a support
SPLITS = ("val2017", "train2017")  # LVIS's validation photos lie in both
Annotations = dict[str, dict[str, list[Any]]]  # class -> photo -> segmentations


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of LVIS-92i: a region for each class and photo.

    Raises:
        UserError: a file is missing or damaged.
    """
    source = find_annotations(options.root)
    found = from_pickle(source) if source.suffix == ".pkl" else from_json(source)
    valid = [name for name, photos in found.items() if len(photos) >= MIN_PHOTOS]
    classes = regions.whole_folds(valid, BENCHMARK.folds, source)
    base, jobs = photo_folder(options.root), []
    for class_id, name in enumerate(classes, 1):
        for photo, segmentations in sorted(found[name].items()):
            try:
                shapes = tuple(map(regions.shape_of, segmentations))
            except ValueError as error:
                raise UserError(f"{source}: class {name}, {photo}: {error}; unpack it again") from None
            path = find_photo(base, photo)
            jobs.append(Region(f"{class_id}/{path.stem}", class_id, path.name, path, shapes))
    return regions.plan_of(options, jobs, [source], BENCHMARK, classes)


def find_photo(base: Path, name: str) -> Path:
    """Return the path of a photo in the folder that is stated, or in another split."""
    places = (base / name, *(base / split / Path(name).name for split in SPLITS))
    return next((path for path in places if path.exists()), base / name)


def find_annotations(root: Path) -> Path:
    """Return the file of annotations.

    Raises:
        UserError: there is none.
    """
    for name in (PICKLE, JSON):
        if found := sorted(root.rglob(name)):
            return found[0]
    raise UserError(f"{root}: holds neither {PICKLE} nor {JSON}; unpack the annotations there")


def from_pickle(path: Path) -> Annotations:
    """Return the segmentations by class and photo of the benchmark's own file; classes have no names there.

    Raises:
        UserError: the file is damaged or of another form.
    """
    try:
        return {
            f"lvis_{category}": {
                str(photo): [one["segmentation"] for one in content["annotations"]] for photo, content in photos.items()
            }
            for category, photos in regions.read_pickle(path).items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is not class -> photo -> annotations ({error!r}); unpack it again") from None


def from_json(path: Path) -> Annotations:
    """Return the segmentations by class and photo of LVIS's own file, classes by ascending id.

    Raises:
        UserError: the file is damaged or of another form.
    """
    content = read_json(path, "this annotation file", "unpack it again")
    try:
        photos = {image["id"]: "/".join(image["coco_url"].split("/")[-2:]) for image in content["images"]}
        names = {one["id"]: str(one["name"]) for one in sorted(content["categories"], key=lambda c: c["id"])}
        out: Annotations = {name: {} for name in names.values()}
        for one in content["annotations"]:
            of_class = out[names[one["category_id"]]]
            of_class.setdefault(photos[one["image_id"]], []).append(one["segmentation"])
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: is not LVIS's form ({error!r}); unpack it again") from None
    return out


def photo_folder(root: Path) -> Path:
    """Return the folder of COCO 2017's photos.

    Raises:
        UserError: there is none.
    """
    for path in (root / "coco", root):
        if (path / SPLITS[0]).is_dir():
            return path
    raise UserError(f"{root}: holds no photos in coco/{SPLITS[0]}; unpack COCO 2017 there")
