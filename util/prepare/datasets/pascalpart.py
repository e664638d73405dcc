"""Prepare PASCAL-Part: parts of objects in four folds (animals, indoor, person, vehicles), cut out with their object.

--root holds, at any depth, a folder VOC2010 with JPEGImages, Annotations_Part_json_merged_part_classes and
all_obj_part_to_image.json, as published with the benchmark. A class is an object and a part that occurs in training and
validation photos. Of several objects in a photo the one whose part has the most pixels is taken (the published code
draws one). Creates images (the objects), masks, lists/test.txt and config/pascalpart: the data set is for tests.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from util.files import read_json
from util.formats.coco import shape_of
from util.formats.shapes import decoded
from util.prepare.datasets.recipe import Job, Piece, Plan
from util.prepare.datasets.regions import find_file, plan_of, published_form, region

ROOT = "folder of VOC2010 and the annotations of parts"
GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
RULE = {"title": "PASCAL-Part", "folds": 4, "query": "class_in_turn", "supports": "distinct", "episodes": 2500}
LEFT_OUT = "aeroplane+TAIL"  # by the published code


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PASCAL-Part."""
    source = find_file(options.root, "all_obj_part_to_image.json")
    content = read_json(source, "this list", "unpack the benchmark's annotations")
    with published_form(source):
        groups = photos_of(content)
    photos = {name: stems for group in groups for name, stems in group.items()}
    classes, folder, jobs = list(photos), source.parent, []
    for class_id, name in enumerate(classes, 1):
        for stem in photos[name]:
            path = folder / f"Annotations_Part_json_merged_part_classes/{stem}.json"
            photo = folder / f"JPEGImages/{stem}.jpg"
            jobs.append(Job(photo, (path, name), f"{class_id}/{stem}", class_id, f"{class_id}/{stem}.png"))
    lists = {"classes": classes, "fold_classes": [list(group) for group in groups]}
    return plan_of(options, jobs, [source], lists, RULE, read=largest_part)


def photos_of(content: dict[str, Any]) -> list[dict[str, list[str]]]:
    """Return the validation photos of each class, ``object+part``, of each group, once; ValueError if it has none."""
    out = []
    for group in GROUPS:
        parts = {
            f"{thing}+{part}": splits
            for thing, of_thing in content[group]["object"].items()
            for part, splits in of_thing["part"].items()
        }
        usable = {name: s["val"] for name, s in parts.items() if s["train"] and s["val"] and name != LEFT_OUT}
        if not usable:
            raise ValueError(f"{group} has no part in training and validation photos")
        out.append({name: list(dict.fromkeys(stems)) for name, stems in usable.items()})
    return out


def largest_part(job: Job, image: np.ndarray) -> Iterator[Piece]:
    """Yield the part of the object whose part has the most pixels; ``job.source`` is the annotation and the class."""
    path, name = job.source
    thing, part = name.split("+", 1)
    content = read_json(path, "this annotation", "unpack the benchmark's annotations")
    most, source = 0, None
    with published_form(path):
        for one in (one for one in content["object"] if one["name"] == thing):
            shapes = tuple(shape_of(mask) for p in one["parts"] if p["name"] == part for mask in p["mask"])
            area = sum(int(np.count_nonzero(decoded(shape))) for shape in shapes if isinstance(shape, dict))
            if area > most:
                box = tuple(int(float(one["bndbox"][side])) for side in ("xmin", "ymin", "xmax", "ymax"))
                most, source = area, (shapes, box)
    if source is not None:
        yield from region(replace(job, source=source), image)
