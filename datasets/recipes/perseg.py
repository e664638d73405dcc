"""Prepare PerSeg: objects in five to seven photos each, photo 00 of which shows what to find in the others.

--root holds, at any depth, Images/<object>/NN.jpg and Annotations/<object>/NN.png, NN from 00; any grey value but 0 of
a mask is the object. Creates images (links), masks, lists/test.txt and config/perseg: the data set is for tests.
"""

import argparse
from pathlib import Path

import numpy as np

from annotations.mask_formats import opened_mask
from annotations.pictures import header_of
from datasets.recipes.recipe import MaskJob, Piece, Plan, Recipe, find_file, plan_of
from util.files.errors import UserError
from util.files.mask_images import fitted_mask

RULE = {"title": "PerSeg", "folds": 1, "query": "pairs", "supports": "first", "episodes": "null"}
RULE |= {"fold_rule": "lists", "protocol": "perseg"}
SUPPORT = "00"


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PerSeg, objects and photos by name; UserError: an object has no photo 00, or no other one."""
    images = find_file(options.root, "Images")
    masks = images.parent / "Annotations"
    classes = set[str]()
    for folder in (images, masks):
        classes.update(path.name for path in folder.glob("[!.]*") if path.is_dir())
    jobs = []
    for class_id, name in enumerate(sorted(classes), 1):
        class_photos = _by_stem(images / name, (".jpg", ".jpeg", ".png"))
        class_masks = _by_stem(masks / name, (".png",))
        stems = sorted(class_photos.keys() | class_masks.keys())
        if len(stems) < 2 or SUPPORT not in class_photos or SUPPORT not in class_masks:
            raise UserError(
                f"{images / name}: needs photo {SUPPORT} with its mask and at least one more; unpack it again"
            )
        for stem in stems:
            photo = class_photos.get(stem, images / name / f"{stem}.jpg")
            mask = class_masks.get(stem, masks / name / f"{stem}.png")
            jobs.append(MaskJob(photo, mask, f"{name}/{stem}", class_id, photo_name=f"{name}/{photo.name}"))
    return plan_of(options, jobs, lists={"classes": sorted(classes)}, rule=RULE, classes=40, read=any_grey)


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Return the visible files of a folder with one of some suffixes, by their stems."""
    return {path.stem: path for path in sorted(folder.glob("[!.]*")) if path.suffix.lower() in suffixes}


def any_grey(job: MaskJob, image: np.ndarray) -> Piece | None:
    """Return the mask that all values but 0 make; UserError: it does not fit, or is the support's and empty."""
    with opened_mask(job.source) as stored:
        mask = (np.asarray(stored.convert("L")) > 0).astype(np.uint8)
    mask = fitted_mask(mask, False, header_of(job.photo), job.source)
    if mask.any():
        return Piece(mask)
    if job.name.endswith(f"/{SUPPORT}"):
        raise UserError(f"{job.source}: the only support of its class shows no pixel of the object; restore it")
    return None


RECIPE = Recipe("perseg", __doc__, {"root": "folder of Images and Annotations"}, find)
