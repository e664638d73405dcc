"""Prepare PerSeg: objects in five to seven photos each, photo 00 of which shows what to find in the others.

--root holds, at any depth, Images/<object>/NN.jpg and Annotations/<object>/NN.png, NN from 00; any grey value but 0 of
a mask is the object. Creates images (links), masks, lists/test.txt and config/perseg: the data set is for tests.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from util.data.images.read import fitted_mask, header_of, opened_mask
from util.errors import UserError
from util.prepare.datasets.recipe import MaskJob, Piece, Plan, find_file, plan_of

ROOT = "folder of Images and Annotations"
RULE = {"title": "PerSeg", "folds": 1, "query": "pairs", "supports": "first", "episodes": "null"}
RULE |= {"fold_rule": "lists", "protocol": "perseg"}
SUPPORT = "00"


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PerSeg, objects and photos by name; UserError: an object has no photo 00, or no other one."""
    images = find_file(options.root, "Images")
    masks, jobs = images.parent / "Annotations", []
    classes = sorted({path.name for folder in (images, masks) for path in folder.glob("[!.]*") if path.is_dir()})
    for class_id, name in enumerate(classes, 1):
        photo_of, mask_of = (
            {path.stem: path for path in sorted((folder / name).glob("[!.]*")) if path.suffix.lower() in kinds}
            for folder, kinds in ((images, (".jpg", ".jpeg", ".png")), (masks, (".png",)))
        )
        stems = sorted(photo_of.keys() | mask_of.keys())
        if len(stems) < 2 or SUPPORT not in photo_of.keys() & mask_of.keys():
            raise UserError(f"{images / name}: has no photo {SUPPORT} with its mask, or no other; unpack it again")
        for stem in stems:
            photo, mask = photo_of.get(stem, images / name / f"{stem}.jpg"), masks / name / f"{stem}.png"
            jobs.append(MaskJob(photo, mask_of.get(stem, mask), f"{name}/{stem}", class_id, f"{name}/{photo.name}"))
    return plan_of(options, jobs, (), {"classes": classes}, RULE, 40, any_grey)


def any_grey(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield the mask that all values but 0 make; UserError: it does not fit, or is the support's and empty."""
    with opened_mask(job.source) as stored:
        mask = (np.asarray(stored.convert("L")) > 0).astype(np.uint8)
    mask = fitted_mask(mask, False, *header_of(job.photo), job.source)
    if mask.any():
        yield Piece(job.line, mask)
    elif job.name.endswith(f"/{SUPPORT}"):
        raise UserError(f"{job.source}: shows no pixel of the object, which nothing else could show; restore it")
