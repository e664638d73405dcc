"""Prepare iSAID-5i: patches of aerial photos with masks of 15 classes, in three folds of five.

--root holds the patches and their masks of class indices (0 background, 1 to 15, 255 ignored), in one of these forms:

  img_dir/{train,val}/<name>.png    ann_dir/{train,val}/<name>_instance_color_RGB.png
  {train,val}/images/<name>.png     {train,val}/semantic_png/<name>_instance_color_RGB.png

(masks may also be named as their patches). Creates images and masks (links) and lists/{train,test}.txt.
"""

import argparse
from functools import partial
from itertools import product

from util.files import visible
from util.prepare.datasets.recipe import Job, Plan, labels

ROOT = "folder of the patches in one of the forms above"
PARTS = {"train": "train", "test": "val"}  # list -> folder
FORMS = (("img_dir/{}", "ann_dir/{}"), ("{}/images", "{}/semantic_png"))


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of iSAID-5i: patches by name."""
    jobs, published = [], {"train": None, "test": 6363}
    for (part, folder), (photos, masks) in product(PARTS.items(), FORMS):
        for path in visible((options.root / photos.format(folder)).glob("*.png"), options.root):
            mask = options.root / masks.format(folder) / f"{path.stem}_instance_color_RGB.png"
            same = mask.with_name(path.name)
            jobs.append(Job(path, same if same.exists() else mask, f"{folder}/{path.stem}", parts=(part,)))
    return Plan(jobs, partial(labels, classes=15), published=published, parts=tuple(PARTS))
