"""Prepare ISIC 2018 (task 1, skin lesions): 2594 photos of three classes, each with a mask.

--root holds ISIC_*.jpg and ISIC_*_segmentation.png at any depth: the official ISIC2018_Task1-2_Training_Input and
ISIC2018_Task1_Training_GroundTruth, whether or not the photos were sorted into folders of classes. The classes are
those of lists/isic2018/classes.csv. Masks of another size than their photo (some copies of the photos were resized) are
resized to it. Creates images (links), masks and lists/test.txt: the data set is for tests.
"""

from __future__ import annotations

import argparse
import csv
import re

from util.errors import UserError
from util.files import REPOSITORY
from util.prepare.datasets.one_class import Mask, plan_of
from util.prepare.datasets.recipe import Plan, classes_of, one_each

ROOT = "folder of the photos and the masks"
CLASSES = "lists/isic2018/classes.csv"
PHOTO, MASK = re.compile(r"(ISIC_\d{7})\.jpe?g", re.I), re.compile(r"(ISIC_\d{7})_segmentation\.png", re.I)
PUBLISHED = {"test": 2594, "seborrheic_keratosis": 208, "nevus": 1867, "melanoma": 519}


def class_of_photo() -> dict[str, str]:
    """Return the class of each photo."""
    with (REPOSITORY / CLASSES).open(newline="", encoding="utf-8") as file:
        return {row["ID"]: row["Class"] for row in csv.DictReader(file)}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of ISIC: masks of all listed photos, by class and name.

    Raises:
        UserError: there are none, or a photo lies in two places.
    """
    root, classes, known = options.root, classes_of("isic"), class_of_photo()
    files = sorted(path for path in root.rglob("ISIC_*") if path.is_file())
    photos, sources = (
        one_each(((m[1].upper(), p) for p in files if (m := kind.fullmatch(p.name))), options.skip_bad)
        for kind in (PHOTO, MASK)
    )
    if not photos or not sources:
        lacking = "ISIC_*.jpg" if not photos else "ISIC_*_segmentation.png"
        raise UserError(f"{root}: holds no {lacking}; unpack the training input and the ground truth of task 1 there")
    masks = []
    for class_id, name in sorted((classes.index(of_class) + 1, name) for name, of_class in known.items()):
        photo, source = photos.get(name, root / f"{name}.jpg"), sources.get(name, root / f"{name}_segmentation.png")
        of_class = known[name]
        masks.append(Mask(("test",), f"{of_class}/{name}", class_id, f"{name}.jpg", photo, source, of_class))
    unknown = sorted(photos.keys() - known.keys())
    notes = [f"{len(unknown)} photos are not in {CLASSES}, such as {unknown[0]}, left out"] if unknown else []
    return plan_of(masks, classes, notes=notes, published=PUBLISHED)
