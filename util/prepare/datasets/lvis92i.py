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
from util.prepare.common import add_root_options
from util.prepare.datasets import class_masks, regions
from util.prepare.datasets.regions import Benchmark, Region

NAME, OUT = "lvis92i", "data/lvis92i"
PICKLE, JSON = "lvis_val.pkl", "lvis_v1_val.json"
FOLDS, CLASSES = 10, 920
BENCHMARK = Benchmark(NAME, "LVIS-92i", FOLDS, "class_in_turn", "with_replacement", 2300, CLASSES)
MIN_PHOTOS = 2  # of a class: a query and a support
SPLITS = ("val2017", "train2017")  # LVIS's validation photos lie in both
Annotations = dict[str, dict[str, list[Any]]]  # class -> photo -> segmentations


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of the photos and the annotations", OUT)
    regions.add_config_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prepare LVIS-92i, write its config and print the numbers of masks and classes.

    Raises:
        UserError: a file is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    source = find_annotations(options.root)
    found = from_pickle(source) if source.suffix == ".pkl" else from_json(source)
    valid = [name for name, photos in found.items() if len(photos) >= MIN_PHOTOS]
    classes = regions.whole_folds(valid, FOLDS, source)
    jobs = find_regions(options.root, found, classes, source)
    regions.prepare_regions(options, jobs, [source], BENCHMARK, classes)
    return 0


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


def find_regions(root: Path, found: Annotations, classes: list[str], source: Path) -> list[Region]:
    """Return a region for each class and photo.

    Raises:
        UserError: a segmentation is neither polygons nor run lengths.
    """
    base, out = photo_folder(root), []
    for class_id, name in enumerate(classes, 1):
        for photo, segmentations in sorted(found[name].items()):
            try:
                shapes = tuple(map(regions.shape_of, segmentations))
            except ValueError as error:
                raise UserError(f"{source}: class {name}, {photo}: {error}; unpack it again") from None
            path = base / photo
            if not path.exists():
                path = next((p for s in SPLITS if (p := base / s / path.name).exists()), path)
            out.append(Region(f"{class_id}/{path.stem}", class_id, path.name, path, shapes))
    return out
