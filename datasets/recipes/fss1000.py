"""Prepare FSS-1000: 1000 classes of ten photos, each with a mask.

--root holds a folder for each class, at any depth (FSS-1000/<class>, FSS-1000/data/<class>, fewshot_data/<class>), with
1.jpg to 10.jpg and 1.png to 10.png. Class names are taken as they are, misspelt ones too. Creates images (links), masks
and lists/{train,validation,test}.txt: 520 classes to train on, 240 to validate on and the 240 official test classes.
"""

import argparse
from itertools import product

from datasets.recipes.recipe import MaskJob, Plan, Recipe, classes_of, grey
from util.files.folders import paths_below
from util.files.project import REPOSITORY

NUMBERS = sorted(map(str, range(1, 11)))  # of a class's photos: 1, 10, 2, ...: the order of the published episodes
SPLITS = {"train": "trn", "validation": "val", "test": "test"}  # part -> file in lists/fss1000
PUBLISHED = {"train": 5200, "validation": 2400, "test": 2400}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of FSS-1000: masks sorted by their paths as text."""
    class_ids = {name: class_id for class_id, name in enumerate(classes_of("fss1000"), 1)}
    first_photos = paths_below(options.root, "1.jpg")
    folder = next((path.parents[1] for path in first_photos if path.parent.name in class_ids), options.root)
    jobs = []
    for part, file in SPLITS.items():
        text = (REPOSITORY / f"lists/fss1000/{file}.txt").read_text(encoding="utf-8")
        for class_name, number in product(sorted(text.split()), NUMBERS):
            name = f"{class_name}/{number}"
            photo = folder / f"{name}.jpg"
            mask = folder / f"{name}.png"
            jobs.append(MaskJob(photo, mask, name, class_ids[class_name], photo_name=f"{name}.jpg", parts=(part,)))
    return Plan(jobs, grey, published=PUBLISHED, parts=tuple(SPLITS))


RECIPE = Recipe("fss1000", __doc__, {"root": "unpacked download"}, find)
