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
from pathlib import Path

from util.errors import UserError
from util.files import REPOSITORY
from util.prepare.common import add_root_options
from util.prepare.datasets import class_masks
from util.prepare.datasets.class_masks import Mask
from util.prepare.datasets.grey_masks import prepare_masks

NAME, OUT = "isic", "data/isic"
CLASSES = "lists/isic2018/classes.csv"
PHOTO, MASK = re.compile(r"(ISIC_\d{7})\.jpe?g", re.I), re.compile(r"(ISIC_\d{7})_segmentation\.png", re.I)
PUBLISHED = {"seborrheic_keratosis": 208, "nevus": 1867, "melanoma": 519}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of the photos and the masks", OUT)


def run(options: argparse.Namespace) -> int:
    """Prepare ISIC 2018 and print the number of masks of each class.

    Raises:
        UserError: a photo or a mask is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    classes = class_masks.settings_of(NAME).classes
    masks, notes = find_masks(options.root, classes, options.skip_bad)
    facts = prepare_masks(options, masks, classes, notes)
    class_masks.print_facts(facts, {"test": sum(PUBLISHED.values())}, PUBLISHED)
    return 0


def class_of_photo() -> dict[str, str]:
    """Return the class of each photo."""
    with (REPOSITORY / CLASSES).open(newline="", encoding="utf-8") as file:
        return {row["ID"]: row["Class"] for row in csv.DictReader(file)}


def find_masks(root: Path, classes: list[str], skip_bad: bool) -> tuple[list[Mask], list[str]]:
    """Return the masks of all listed photos, by class and name, and lines about what differs.

    Raises:
        UserError: there are none, or a photo lies in two places.
    """
    files = sorted(path for path in root.rglob("ISIC_*") if path.is_file())
    photos, sources = (class_masks.by_name(files, pattern, skip_bad) for pattern in (PHOTO, MASK))
    if not photos or not sources:
        lacking = "ISIC_*.jpg" if not photos else "ISIC_*_segmentation.png"
        raise UserError(f"{root}: holds no {lacking}; unpack the training input and the ground truth of task 1 there")
    known, ids = class_of_photo(), {name: number for number, name in enumerate(classes, 1)}
    masks = []
    for name in sorted(known, key=lambda name: (ids[known[name]], name)):
        of_class = known[name]
        photo, source = photos.get(name, root / f"{name}.jpg"), sources.get(name, root / f"{name}_segmentation.png")
        masks.append(Mask("test", f"{of_class}/{name}", ids[of_class], f"{name}.jpg", photo, source))
    unknown = sorted(photos.keys() - known.keys())
    notes = [f"{len(unknown)} photos are not in {CLASSES}, such as {unknown[0]}, left out"] if unknown else []
    return masks, notes
