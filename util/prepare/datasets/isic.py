"""Prepare ISIC 2018 (task 1, skin lesions): 2594 photos of three classes, each with a mask.

--root holds ISIC_*.jpg and ISIC_*_segmentation.png at any depth: the official ISIC2018_Task1-2_Training_Input and
ISIC2018_Task1_Training_GroundTruth, whether or not the photos were sorted into folders of classes. The classes are
those of lists/isic2018/classes.csv. Masks of another size than their photo (some copies of the photos were resized) are
resized to it. Creates images (links), masks and lists/test.txt: the data set is for tests.
"""

import argparse

from util.files import paths_below
from util.prepare.datasets.recipe import MaskJob, Plan, classes_of, grey, listed, matching

ROOT = "folder of the photos and the masks"
CLASSES = "isic2018/classes.csv"  # of ``lists/``
PUBLISHED = {"test": 2594, "seborrheic_keratosis": 208, "nevus": 1867, "melanoma": 519}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of ISIC: masks of all listed photos, by class and name; errors as ``by_name``."""
    root, classes, known = options.root, classes_of("isic"), {row["ID"]: row["Class"] for row in listed(CLASSES)}
    files, jobs = paths_below(root, "ISIC_*"), []
    photos, masks = matching(files, r"(ISIC_\d{7})\.jpe?g"), matching(files, r"(ISIC_\d{7})_segmentation\.png")
    for class_id, name in sorted((classes.index(of_class) + 1, name) for name, of_class in known.items()):
        photo, mask = photos.get(name, root / f"{name}.jpg"), masks.get(name, root / f"{name}_segmentation.png")
        jobs.append(MaskJob(photo, mask, f"{known[name]}/{name}", class_id, f"{name}.jpg"))
    unknown = sorted(photos.keys() - known.keys())
    notes = [f"{len(unknown)} photos are not in lists/{CLASSES}, such as {unknown[0]}, left out"] if unknown else []
    return Plan(jobs, grey, classes, PUBLISHED, notes)
