"""Prepare ISIC 2018 (task 1, skin lesions): 2594 photos of three classes, each with a mask.

--root holds ISIC_*.jpg and ISIC_*_segmentation.png at any depth: the official ISIC2018_Task1-2_Training_Input and
ISIC2018_Task1_Training_GroundTruth, whether or not the photos were sorted into folders of classes. The classes are
those of lists/isic2018/classes.csv. Masks of another size than their photo (some copies of the photos were resized) are
resized to it. Creates images (links), masks and lists/test.txt: the data set is for tests.
"""

import argparse

from datasets.recipes.recipe import MaskJob, Plan, Recipe, classes_of, grey, matching, read_table
from util.files.folders import paths_below

CLASSES = "isic2018/classes.csv"  # of ``lists/``
PUBLISHED = {"test": 2594, "seborrheic_keratosis": 208, "nevus": 1867, "melanoma": 519}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of ISIC: masks of all listed photos, by class and name; raises as ``by_name`` does."""
    classes = classes_of("isic")
    class_names = {row["ID"]: row["Class"] for row in read_table(CLASSES)}
    files = paths_below(options.root, "ISIC_*")
    photos = matching(files, r"(ISIC_\d{7})\.jpe?g")
    masks = matching(files, r"(ISIC_\d{7})_segmentation\.png")
    numbered = sorted((classes.index(class_name) + 1, name) for name, class_name in class_names.items())
    jobs = []
    for class_id, name in numbered:
        photo = photos.get(name, options.root / f"{name}.jpg")
        mask = masks.get(name, options.root / f"{name}_segmentation.png")
        jobs.append(MaskJob(photo, mask, f"{class_names[name]}/{name}", class_id, photo_name=f"{name}.jpg"))
    unlisted = sorted(photos.keys() - class_names.keys())
    notes = []
    if unlisted:
        notes.append(f"{len(unlisted)} photos are not in lists/{CLASSES}, such as {unlisted[0]}, left out")
    return Plan(jobs, grey, classes, PUBLISHED, notes)


RECIPE = Recipe("isic", __doc__, {"root": "folder of the photos and the masks"}, find)
