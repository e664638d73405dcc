"""Prepare LVIS-92i: masks of 920 of LVIS's classes in ten folds of 92.

--root holds coco/train2017 and coco/val2017 (or both folders themselves) and either lvis_val.pkl, as published with the
benchmark, or LVIS's own lvis_v1_val.json. A mask is the union of a class's instances in a photo. Folds are made of the
classes that have more photos than shots, by ascending id: fold f has the f-th, the (f + 10)-th, ... So five shots have
other folds than one. Creates images (links), masks, lists/test.txt and config/lvis92i: the data set is for tests.
"""

import argparse
from pathlib import Path
from typing import Any

from util.files import read_json
from util.formats.coco import shape_of
from util.prepare.datasets.recipe import Job, Plan, coco_photo, find_file, listed, plan_of, published_form, read_pickle

ROOT = "folder of the photos and the annotations"
FOLDS = 10
CLASSES = "lvis92i/classes.csv"  # of ``lists/``: those of one shot
RULE = {"title": "LVIS-92i", "folds": FOLDS, "query": "class_in_turn", "supports": "with_replacement", "episodes": 2300}
Annotations = dict[int, dict[str, list[Any]]]  # id of a class -> photo -> segmentations


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of LVIS-92i: a region for each class and photo."""
    source, jobs = find_file(options.root, "lvis_val.pkl", "lvis_v1_val.json"), []
    known = {int(row["lvis_id"]): row["name"] for row in listed(CLASSES)}
    with published_form(source):
        found, own = from_pickle(source) if source.suffix == ".pkl" else from_json(source)
        valid = [number for number, photos in found.items() if len(photos) > 1]  # a query and a support
        valid = valid[: len(valid) // FOLDS * FOLDS]
        for class_id, number in enumerate(valid, 1):
            for photo, segmentations in sorted(found[number].items()):
                path, shapes = coco_photo(options.root, photo), tuple(map(shape_of, segmentations))
                jobs.append(Job(path, (shapes, None), f"{class_id}/{path.stem}", class_id, path.name))
    others = [str(number) for number in valid if number not in known]
    note = f"ids of the classes, lists/{CLASSES}: "
    note += "OK" if valid == [*known] else f"differ, {len(others)} are not in it: {', '.join(others[:5])}"
    names = known if valid == [*known] else own  # whose spelling differs between LVIS's releases
    lists = {
        "classes": [names.get(number, f"lvis_{number}") for number in valid],
        "class_photos": [len(found[number]) for number in valid],
    }
    return plan_of(options, jobs, [source], lists, RULE, 920, notes=[note])


def from_pickle(path: Path) -> tuple[Annotations, dict[int, str]]:
    """Return the segmentations by class and photo of the benchmark's own file; classes have no names there."""
    return {
        int(category): {
            str(photo): [one["segmentation"] for one in content["annotations"]] for photo, content in photos.items()
        }
        for category, photos in read_pickle(path).items()
    }, {}


def from_json(path: Path) -> tuple[Annotations, dict[int, str]]:
    """Return the segmentations by class and photo of LVIS's own file, classes by ascending id, and their names."""
    content = read_json(path, "this annotation file", "unpack it again")
    photos = {image["id"]: "/".join(image["coco_url"].split("/")[-2:]) for image in content["images"]}
    names = {one["id"]: str(one["name"]) for one in sorted(content["categories"], key=lambda c: c["id"])}
    out: Annotations = {number: {} for number in names}
    for one in content["annotations"]:
        out[one["category_id"]].setdefault(photos[one["image_id"]], []).append(one["segmentation"])
    return out, names
