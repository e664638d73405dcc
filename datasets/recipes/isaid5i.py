"""Prepare iSAID-5i: patches of aerial photos with masks of 15 classes, in three folds of five.

--root holds the patches and their masks of class indices (0 background, 1 to 15, 255 ignored), in one of these forms:

  img_dir/{train,val}/<name>.png    ann_dir/{train,val}/<name>_instance_color_RGB.png
  {train,val}/images/<name>.png     {train,val}/semantic_png/<name>_instance_color_RGB.png

(masks may also be named as their patches). Creates images and masks (links) and lists/{train,test}.txt.

The published test lists of the folds are used where they lie in this project as lists/isaid5i/val_fold<0, 1, 2>.txt.
"""

import argparse
from functools import partial
from itertools import product

from datasets.recipes.recipe import MaskJob, Plan, Recipe, check_masks, labels
from util.config.folds import Fold
from util.data.lists.files import missing_fold_list, read_fold_list
from util.files import visible

PARTS = {"train": "train", "test": "val"}  # list -> folder
PUBLISHED = {"train": None, "test": 6363}
CLASSES = 15
FOLDS = 3
LIST = "lists/isaid5i/val_fold{fold}.txt"  # as protocols of the data set name it
FORMS = (("img_dir/{}", "ann_dir/{}"), ("{}/images", "{}/semantic_png"))


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of iSAID-5i: patches by name."""
    jobs = []
    for (part, folder), (photos, masks) in product(PARTS.items(), FORMS):
        mask_folder = options.root / masks.format(folder)
        photo_folder = options.root / photos.format(folder)
        for photo in visible(photo_folder.glob("*.png"), options.root):
            mask = mask_folder / photo.name
            if not mask.exists():
                mask = mask_folder / f"{photo.stem}_instance_color_RGB.png"
            jobs.append(MaskJob(photo, mask, f"{folder}/{photo.stem}", parts=(part,)))
    test_names = {job.photo.stem for job in jobs if "test" in job.parts}
    notes = [_list_note(fold, test_names) for fold in range(FOLDS)]
    check = partial(check_masks, classes=CLASSES)
    read = partial(labels, classes=CLASSES)
    return Plan(jobs, read, published=PUBLISHED, notes=notes, parts=tuple(PARTS), check=check)


def _list_note(number: int, names: set[str]) -> str:
    """Return in words whether the published test list of a fold is here, and how many of its patches are."""
    fold = Fold(classes=CLASSES, folds=FOLDS, number=number, rule="contiguous")
    missing = missing_fold_list(LIST, fold)
    if missing:
        return f"fold {number}: no published test list ({missing}); repositories that hold it: docs/datasets.md"
    listed = read_fold_list(LIST, fold)
    present = sum(stem in names for stem in listed.stems)
    return f"fold {number}: published test list of {len(listed.stems)} lines, {present} of them with their patches"


RECIPE = Recipe("isaid5i", __doc__, {"root": "folder of the patches and their masks"}, find)
