"""Prepare PASCAL-Part: parts of objects in four folds (animals, indoor, person, vehicles), cut out with their object.

--root holds, at any depth, a folder VOC2010 with JPEGImages, all_obj_part_to_image.json and
Annotations_Part_json_merged_part_classes, as published with the benchmark. A class is an object and a part that occurs
in training and validation photos: 31, 4, 5 and 16. Of several objects of a class in a photo one is drawn at random, as
published, but once for all. Creates images (the objects), masks, lists/test.txt and config/pascalpart: the data set is
for tests.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from annotations.annotation import Shape
from annotations.coco import shape_of
from annotations.shapes import decoded
from datasets.recipes.recipe import (
    MaskJob,
    Piece,
    Plan,
    Recipe,
    compare_classes,
    draw_object,
    find_file,
    plan_of,
    published_form,
    read_table,
    region,
)
from util.files.reading import read_json

GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
RULE = {"title": "PASCAL-Part", "folds": 4, "query": "class_in_turn", "supports": "distinct"}
CLASSES = "pascal_part/classes.csv"  # of ``lists/``
UNUSED = "aeroplane+TAIL"


class Object(NamedTuple):
    """An object of an annotation."""

    name: str
    box: tuple[int, ...]  # left, top, right, bottom
    parts: Sequence[tuple[str, Shape]]  # names and shapes


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PASCAL-Part."""
    source = find_file(options.root, "all_obj_part_to_image.json")
    folder = source.parent
    with published_form(source):
        groups = photos_of(source)
    photos = {name: list(dict.fromkeys(stems)) for group in groups for name, stems in group.items()}
    jobs = []
    for class_id, (name, stems) in enumerate(photos.items(), 1):
        for stem in stems:
            photo = folder / f"JPEGImages/{stem}.jpg"
            annotation = folder / f"Annotations_Part_json_merged_part_classes/{stem}.json"
            mask_name = f"{class_id}/{stem}"
            jobs.append(MaskJob(photo, (annotation, name), mask_name, class_id, photo_name=f"{mask_name}.png"))

    published = [f"{row['object']}+{row['part']}" for row in read_table(CLASSES)]
    episodes = [min(2500, sum(map(len, group.values()))) for group in groups]  # at most the photos of its lists
    return plan_of(
        options,
        jobs,
        lists={"classes": list(photos), "fold_classes": [list(group) for group in groups]},
        rule={**RULE, "episodes": episodes},
        classes=56,
        read=drawn_part,
        notes=[
            f"classes, lists/{CLASSES}: {compare_classes(photos, published)}",
            f"episodes by fold: {episodes}, published [2500, 959, 2500, 2500]",
        ],
    )


def photos_of(path: Path) -> list[dict[str, list[str]]]:
    """Return the validation photos of each class, ``object+part``, of each group; ValueError if it has none."""
    content = read_json(path, "this list", "unpack the benchmark's annotations")
    groups = []
    for group in GROUPS:
        photos = {}
        for thing, description in content[group]["object"].items():
            for part, splits in description["part"].items():
                name = f"{thing}+{part}"
                if splits["train"] and splits["val"] and name != UNUSED:
                    photos[name] = splits["val"]
        if not photos:
            raise ValueError(f"{group} has no part in training and validation photos")
        groups.append(photos)
    return groups


def objects_of(path: Path) -> list[Object]:
    """Return the objects of a photo with their merged parts."""
    objects = []
    for thing in read_json(path, "this annotation", "unpack the benchmark's annotations")["object"]:
        box = tuple(int(float(thing["bndbox"][side])) for side in ("xmin", "ymin", "xmax", "ymax"))
        parts = [(part["name"], shape_of(mask)) for part in thing["parts"] for mask in part["mask"]]
        objects.append(Object(thing["name"], box, parts))
    return objects


def drawn_part(job: MaskJob, image: np.ndarray) -> Piece | None:
    """Return the part of an object, drawn from those that show it; ``job.source`` is the annotation and the class."""
    path, class_name = job.source
    object_name, part_name = class_name.split("+", 1)
    candidates = []
    with published_form(path):
        for thing in objects_of(path):
            shapes = tuple(shape for name, shape in thing.parts if name == part_name)
            if thing.name == object_name and any(map(_has_pixels, shapes)):
                candidates.append((shapes, thing.box))
    if not candidates:
        return None
    chosen = draw_object(candidates, job.class_id, path.stem)
    return region(replace(job, source=chosen), image)


def _has_pixels(shape: Shape) -> bool:
    return not isinstance(shape, dict) or bool(decoded(shape).any())


RECIPE = Recipe("pascalpart", __doc__, {"root": "folder of VOC2010 and the annotations of parts"}, find)
