"""Prepare LVIS-92i: masks of 920 of LVIS's classes in ten folds of 92.

--root holds coco/train2017 and coco/val2017 (or both folders themselves) and either lvis_val.pkl, as published with the
benchmark, or LVIS's own lvis_v1_val.json. A mask is the union of a class's instances in a photo. Folds are made of the
classes that have more photos than shots, by ascending id: fold f has the f-th, the (f + 10)-th, ... So five shots have
other folds than one. Creates images (links), masks, lists/test.txt and config/lvis92i: the data set is for tests.
"""

import argparse
from typing import Any

from util.files import read_json
from util.formats.coco import shape_of
from util.prepare.datasets.recipe import (
    MaskJob,
    Plan,
    coco_photo,
    find_file,
    listed,
    plan_of,
    published_form,
    read_pickle,
)

ROOT = "folder of the photos and the annotations"
FOLDS = 10
CLASSES = "lvis92i/classes.csv"  # of ``lists/``: those of one shot
RULE = {"title": "LVIS-92i", "folds": FOLDS, "query": "class_in_turn", "supports": "with_replacement", "episodes": 2300}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of LVIS-92i: a region for each class and photo."""
    source, jobs = find_file(options.root, "lvis_val.pkl", "lvis_v1_val.json"), []
    known = {int(row["lvis_id"]): row["name"] for row in listed(CLASSES)}
    own: dict[int, str] = {}  # names, which the benchmark's file lacks; LVIS's releases spell some differently
    found: dict[int, dict[str, list[dict[str, Any]]]]  # id of a class, ascending -> photo -> annotations
    with published_form(source):
        if source.suffix == ".pkl":
            content = read_pickle(source)
            found = {int(c): {str(p): held["annotations"] for p, held in of.items()} for c, of in content.items()}
        else:
            content = read_json(source, "this annotation file", "unpack it again")
            photos = {image["id"]: "/".join(image["coco_url"].split("/")[-2:]) for image in content["images"]}
            own = {one["id"]: str(one["name"]) for one in sorted(content["categories"], key=lambda c: c["id"])}
            found = {number: {} for number in own}
            for one in content["annotations"]:
                found[one["category_id"]].setdefault(photos[one["image_id"]], []).append(one)
        valid = [number for number, of_class in found.items() if len(of_class) > 1]  # a query and a support
        valid = valid[: len(valid) // FOLDS * FOLDS]
        for class_id, number in enumerate(valid, 1):
            for photo, annotations in sorted(found[number].items()):
                path = coco_photo(options.root, photo)
                shapes = tuple(shape_of(one["segmentation"]) for one in annotations)
                jobs.append(MaskJob(path, (shapes, None), f"{class_id}/{path.stem}", class_id, path.name))
    others = [str(number) for number in valid if number not in known]
    same = valid == [*known]
    note = "OK" if same else f"differ, {len(others)} are not in it: {', '.join(others[:5])}"
    names = known if same else own
    classes = [names.get(number, f"lvis_{number}") for number in valid]
    lists = {"classes": classes, "class_photos": [len(found[number]) for number in valid]}
    return plan_of(options, jobs, [source], lists, RULE, 920, notes=[f"ids of the classes, lists/{CLASSES}: {note}"])
