"""Prepare SUIM (underwater photos): masks of seven classes.

--root holds photos <stem>.jpg in folders images/ and, in folders masks/ beside them, either masks <stem>.bmp of colours
(the official form) or a folder for each class (FV, HD, PF, RI, RO, SR, WR) of masks <stem>.*, at any depth. Masks
without a pixel of their class are left out. Creates images (links), masks and lists/test.txt: the data set is for
tests.
"""

import argparse
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from datasets.recipes.recipe import (
    MaskJob,
    Piece,
    Plan,
    Recipe,
    by_name,
    classes_of,
    fitted,
    grey,
    ids_of_colours,
    line_of,
)
from util.files import paths_below, visible

# Folder of a class -> whether red, green and blue are set in the official masks; in the order of the class ids.
CODES = {"FV": (1, 1, 0), "HD": (0, 0, 1), "PF": (0, 1, 0), "RI": (1, 0, 1), "RO": (1, 0, 0), "SR": (1, 1, 1)}
CODES |= {"WR": (0, 1, 1)}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of SUIM, from masks of classes or of colours."""
    folders = []
    for images in paths_below(options.root, "images"):
        masks = images.parent / "masks"
        if masks.is_dir():
            folders.append(masks)
    classes = classes_of("suim")
    published = {"test": 3859, **dict.fromkeys(classes)}  # masks that are not empty
    jobs = _find_class_masks(folders)
    coloured = [path for folder in folders for path in visible(folder.glob("*.bmp"), folder)]
    if not jobs:
        jobs = [MaskJob(_photo_of(path, path.parent), path) for path in coloured]
        return Plan(jobs, coloured_masks, classes, published)
    notes = []
    if coloured:
        notes.append(f"masks of colours, left out beside those of classes: {len(coloured)}")
    return Plan(jobs, grey, classes, published, notes)


def _find_class_masks(folders: list[Path]) -> list[MaskJob]:
    """Return the masks of one class in the folders of classes; errors as ``by_name``."""
    masks = []
    for folder, code in product(folders, CODES):
        for path in visible((folder / code).glob("*"), folder):
            if path.suffix.lower() in (".png", ".bmp", ".jpg"):
                masks.append((f"{code}/{path.stem}", path))
    class_ids = {code: class_id for class_id, code in enumerate(CODES, 1)}
    jobs = []
    for name, path in by_name(masks).items():
        class_id = class_ids[path.parent.name]
        photo = _photo_of(path, path.parents[1])
        jobs.append(MaskJob(photo, path, name, class_id, photo_name=photo.name))
    return jobs


def _photo_of(mask: Path, folder: Path) -> Path:
    """Return the photo of a mask, in ``images`` beside the folder of masks."""
    return folder.parent / f"images/{mask.stem}.jpg"


def coloured_masks(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield a mask for each class that a mask of colours shows."""
    ids = ids_of_colours(job.source, CODES.values())
    for class_id, code in enumerate(CODES, 1):
        if (ids == class_id).any():
            mask = fitted(job, image, (ids == class_id).astype(np.uint8))
            yield Piece(line_of(f"{code}/{job.photo.stem}", class_id, job.photo.name), mask)


RECIPE = Recipe("suim", __doc__, {"root": "folder of images and masks"}, find)
