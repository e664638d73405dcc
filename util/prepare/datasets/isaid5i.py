"""Prepare iSAID-5i: patches of aerial photos with masks of 15 classes, in three folds of five.

--root holds the patches and their masks of class indices (0 background, 1 to 15, 255 ignored), in one of these forms:

  img_dir/{train,val}/<name>.png    ann_dir/{train,val}/<name>_instance_color_RGB.png
  {train,val}/images/<name>.png     {train,val}/semantic_png/<name>_instance_color_RGB.png

(masks may also be named as their patches). Creates images and masks (links) and lists/{train,test}.txt.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from util.data.lists.index import measure
from util.errors import UserError
from util.files import link
from util.prepare.datasets.recipe import IMAGES, MASKS, Made, Plan

ROOT = "folder of the patches in one of the forms above"
CLASSES = 15
PARTS = {"train": "train", "test": "val"}  # list -> folder
FORMS = (("img_dir/{}", "ann_dir/{}"), ("{}/images", "{}/semantic_png"))
MASK_ENDS = ("_instance_color_RGB", "")
Patch = tuple[str, str, Path, Path]  # list, name in the prepared folder, patch and mask


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of iSAID-5i: patches by name.

    Raises:
        UserError: a part has none.
    """
    patches = [patch for part, folder in PARTS.items() for patch in _patches(options.root, part, folder)]
    sources = [path for patch in patches for path in patch[2:]]
    published = {"train": None, "test": 6363}
    return Plan(lambda: patches, _make, sources, patches, (), tuple(PARTS), published, _outputs)


def _patches(root: Path, part: str, folder: str) -> list[Patch]:
    for photos, masks in FORMS:
        out = []
        for path in sorted((root / photos.format(folder)).glob("*.png")):
            ends = [root / masks.format(folder) / f"{path.stem}{end}.png" for end in MASK_ENDS]
            out.append((part, f"{folder}/{path.stem}", path, next((m for m in ends if m.exists()), ends[0])))
        if out:
            return out
    raise UserError(f"{root}: holds no patches of {folder}; name the folder of img_dir and ann_dir")


def _outputs(line: str) -> tuple[str, str]:
    return f"{IMAGES}/{line}.png", f"{MASKS}/{line}.png"


def _make(patch: Patch, out: Path, since: int) -> Made:
    """Link a patch and its mask, after a look whether both fit and the mask holds class ids."""
    part, name, photo, mask = patch
    measure((photo, mask), CLASSES)
    for source, target in zip((photo, mask), _outputs(name), strict=True):
        link(source, out / target)
    return Made(((part, name),))
