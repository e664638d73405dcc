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

from util.config.folds import Fold
from util.data.lists.files import missing_fold_list, read_fold_list
from util.files import visible
from util.prepare.datasets.recipe import MaskJob, Plan, labels

ROOT = "folder of the patches in one of the forms above"
PARTS = {"train": "train", "test": "val"}  # list -> folder
FOLDS = 3
LIST = "lists/isaid5i/val_fold{fold}.txt"  # as protocols of the data set name it
FORMS = (("img_dir/{}", "ann_dir/{}"), ("{}/images", "{}/semantic_png"))


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of iSAID-5i: patches by name."""
    jobs, published = [], {"train": None, "test": 6363}
    for (part, folder), (photos, masks) in product(PARTS.items(), FORMS):
        for path in visible((options.root / photos.format(folder)).glob("*.png"), options.root):
            mask = options.root / masks.format(folder) / f"{path.stem}_instance_color_RGB.png"
            same = mask.with_name(path.name)
            jobs.append(MaskJob(path, same if same.exists() else mask, f"{folder}/{path.stem}", parts=(part,)))
    names = {job.photo.stem for job in jobs if "test" in job.parts}
    notes = [_list_note(fold, names) for fold in range(FOLDS)]
    return Plan(jobs, partial(labels, classes=15), published=published, notes=notes, parts=tuple(PARTS))


def _list_note(number: int, names: set[str]) -> str:
    """Return in words whether the published test list of a fold is here, and how many of its patches are."""
    fold = Fold(classes=15, folds=FOLDS, number=number, rule="contiguous")
    if missing := missing_fold_list(LIST, fold):
        return f"fold {number}: no published test list ({missing}); repositories that hold it: docs/datasets.md"
    listed = read_fold_list(LIST, fold)
    here = sum(stem in names for stem in listed.stems)
    return f"fold {number}: published test list of {len(listed.stems)} lines, {here} of them with their patches"
