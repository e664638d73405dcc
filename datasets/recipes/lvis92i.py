"""Prepare LVIS-92i: masks of 920 of LVIS's classes in ten folds of 92.

--root holds coco/train2017 and coco/val2017 (or both folders themselves) and lvis_val.pkl, as published with the
benchmark. A mask is the union of a class's instances in a photo. Folds are made of the classes that have more photos
than shots, by ascending id: fold f has the f-th, the (f + 10)-th, ... So five shots have other folds than one. Creates
images (links), masks, lists/test.txt and config/lvis92i: the data set is for tests.
"""

import argparse
from pathlib import Path
from typing import Any

from annotations.coco import shape_of
from datasets.recipes.recipe import (
    MaskJob,
    Plan,
    Recipe,
    coco_photo,
    compare_classes,
    find_file,
    plan_of,
    published_form,
    read_pickle,
    read_table,
)

FOLDS = 10
CLASSES = "lvis92i/classes.csv"  # of ``lists/``: those of one shot
RULE = {"title": "LVIS-92i", "folds": FOLDS, "query": "class_in_turn", "supports": "with_replacement", "episodes": 2300}
ClassPhotos = dict[int, dict[str, list[dict[str, Any]]]]  # id of a class, ascending -> photo -> annotations


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of LVIS-92i: a region for each class and photo."""
    source = find_file(options.root, "lvis_val.pkl")
    with published_form(source):
        class_photos = _read_benchmark(source)
        valid = [lvis_id for lvis_id, photos in class_photos.items() if len(photos) > 1]  # a query and a support
        valid = valid[: len(valid) // FOLDS * FOLDS]
        jobs = []
        for class_id, lvis_id in enumerate(valid, 1):
            for name, annotations in sorted(class_photos[lvis_id].items()):
                photo = coco_photo(options.root, name)
                shapes = tuple(shape_of(annotation["segmentation"]) for annotation in annotations)
                jobs.append(MaskJob(photo, (shapes, None), f"{class_id}/{photo.stem}", class_id, photo.name))

    published_names = {int(row["lvis_id"]): row["name"] for row in read_table(CLASSES)}
    names = published_names if valid == list(published_names) else {}
    lists = {
        "classes": [names.get(lvis_id, f"lvis_{lvis_id}") for lvis_id in valid],
        "class_photos": [len(class_photos[lvis_id]) for lvis_id in valid],
    }
    note = f"ids of the classes, lists/{CLASSES}: {compare_classes(valid, published_names)}"
    return plan_of(options, jobs, lists=lists, rule=RULE, classes=920, notes=[note])


def _read_benchmark(path: Path) -> ClassPhotos:
    """Return the annotations in the benchmark's file, which has no names of classes."""
    class_photos: ClassPhotos = {}
    for lvis_id, photos in read_pickle(path).items():
        class_photos[int(lvis_id)] = {str(photo): content["annotations"] for photo, content in photos.items()}
    return class_photos


RECIPE = Recipe("lvis92i", __doc__, {"root": "folder of the photos and the annotations"}, find)
