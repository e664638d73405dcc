"""Prepare LVIS-92i: masks of 920 of LVIS's classes in ten folds of 92.

--root holds coco/train2017 and coco/val2017 (or both folders themselves) and either lvis_val.pkl, as published with the
benchmark, or LVIS's own lvis_v1_val.json. A mask is the union of a class's instances in a photo. A class needs two
photos; fold f has the classes f, f + 10, ... in the order of the file. Creates images (links), masks, lists/test.txt
and config/lvis92i: the data set is for tests.
"""

import argparse
from pathlib import Path
from typing import Any

from util.files import read_json
from util.formats.coco import shape_of
from util.prepare.datasets import regions
from util.prepare.datasets.recipe import Job, Plan

ROOT = "folder of the photos and the annotations"
FOLDS = 10
RULE = {"title": "LVIS-92i", "folds": FOLDS, "query": "class_in_turn", "supports": "with_replacement", "episodes": 2300}
Annotations = dict[str, dict[str, list[Any]]]  # class -> photo -> segmentations


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of LVIS-92i: a region for each class and photo."""
    source, jobs = regions.find_file(options.root, "lvis_val.pkl", "lvis_v1_val.json"), []
    with regions.published_form(source):
        found = from_pickle(source) if source.suffix == ".pkl" else from_json(source)
        valid = [name for name, photos in found.items() if len(photos) > 1]  # a query and a support
        classes = valid[: len(valid) // FOLDS * FOLDS]
        for class_id, name in enumerate(classes, 1):
            for photo, segmentations in sorted(found[name].items()):
                path, shapes = regions.coco_photo(options.root, photo), tuple(map(shape_of, segmentations))
                jobs.append(Job(path, (shapes, None), f"{class_id}/{path.stem}", class_id, path.name))
    return regions.plan_of(options, jobs, [source], {"classes": classes}, RULE, 920)


def from_pickle(path: Path) -> Annotations:
    """Return the segmentations by class and photo of the benchmark's own file; classes have no names there."""
    return {
        f"lvis_{category}": {
            str(photo): [one["segmentation"] for one in content["annotations"]] for photo, content in photos.items()
        }
        for category, photos in regions.read_pickle(path).items()
    }


def from_json(path: Path) -> Annotations:
    """Return the segmentations by class and photo of LVIS's own file, classes by ascending id."""
    content = read_json(path, "this annotation file", "unpack it again")
    photos = {image["id"]: "/".join(image["coco_url"].split("/")[-2:]) for image in content["images"]}
    names = {one["id"]: str(one["name"]) for one in sorted(content["categories"], key=lambda c: c["id"])}
    out: Annotations = {name: {} for name in names.values()}
    for one in content["annotations"]:
        out[names[one["category_id"]]].setdefault(photos[one["image_id"]], []).append(one["segmentation"])
    return out
