"""Prepare SUIM (underwater photos): masks of seven classes.

--root holds photos <stem>.jpg in folders images/ and, in folders masks/ beside them, either masks <stem>.bmp of colours
(the official form) or a folder for each class (FV, HD, PF, RI, RO, SR, WR) of masks <stem>.*, at any depth. Masks
without a pixel of their class are left out. Creates images (links), masks and lists/test.txt: the data set is for
tests.
"""

import argparse
from collections.abc import Iterator

import numpy as np

from util.files import paths_below, visible
from util.prepare.datasets.recipe import (
    MaskJob,
    Piece,
    Plan,
    by_name,
    classes_of,
    fitted,
    grey,
    ids_of_colours,
    line_of,
)

ROOT = "folder of images and masks"
# Folder of a class -> whether red, green and blue are set in the official masks; in the order of the class ids.
CODES = {"FV": (1, 1, 0), "HD": (0, 0, 1), "PF": (0, 1, 0), "RI": (1, 0, 1), "RO": (1, 0, 0), "SR": (1, 1, 1)}
CODES |= {"WR": (0, 1, 1)}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of SUIM, from masks of classes or of colours."""
    classes = classes_of("suim")
    folders = [p.parent / "masks" for p in paths_below(options.root, "images") if (p.parent / "masks").is_dir()]
    files = [path for folder in folders for code in CODES for path in visible((folder / code).glob("*"), folder)]
    kinds = ".png", ".bmp", ".jpg"
    masks = by_name((f"{path.parent.name}/{path.stem}", path) for path in files if path.suffix.lower() in kinds)
    ids = {code: class_id for class_id, code in enumerate(CODES, 1)}
    jobs = [
        MaskJob(path.parents[2] / f"images/{path.stem}.jpg", path, name, ids[path.parent.name], f"{path.stem}.jpg")
        for name, path in masks.items()
    ]
    coloured = [path for folder in folders for path in visible(folder.glob("*.bmp"), folder)]
    notes = [f"masks of colours, left out beside those of classes: {len(coloured)}"] if jobs and coloured else []
    jobs = jobs or [MaskJob(path.parents[1] / f"images/{path.stem}.jpg", path) for path in coloured]
    published = {"test": 3859, **dict.fromkeys(classes)}  # masks that are not empty
    return Plan(jobs, grey if masks else coloured_masks, classes, published, notes)


def coloured_masks(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield a mask for each class that a mask of colours shows."""
    ids = ids_of_colours(job.source, CODES.values())
    for class_id, code in enumerate(CODES, 1):
        if (ids == class_id).any():
            mask = fitted(job, image, (ids == class_id).astype(np.uint8))
            yield Piece(line_of(f"{code}/{job.photo.stem}", class_id, job.photo.name), mask)
