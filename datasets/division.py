"""How a data set of one's own is divided: into photos to train and to test on, and into the classes of folds."""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from annotations.words import part_of
from datasets.custom_plan import CustomOptions
from datasets.recipes.recipe import MaskJob
from util.data.lists.index import Index

PARTS = {"tr": "train", "va": "validation", "te": "test"}  # beginning of a word in a folder's name -> part of a set
TEST_SHARE = 0.25  # of the images, where no folders name parts
LEAST_PHOTOS = 2  # of a class on each side, a query and a support, where it has twice as many
LEAST_PIXELS = 64  # that a photo shows of a class where it counts


def part_of_job(job: MaskJob, classes: Sequence[str], options: CustomOptions) -> str:
    """Return the part of a set, of ``PARTS``, that a folder of a mask or of its photo names; '' if none does."""
    class_name = classes[job.class_id - 1] if job.class_id else ""
    for file, root in ((job.source, options.masks), (job.photo, options.images)):
        if root is None or not isinstance(file, Path) or not file.is_relative_to(root):
            continue
        folders = [folder.strip() for folder in file.relative_to(root).parts[:-1]]
        if class_name in folders:  # the innermost is of the class, which may be called test tube
            del folders[len(folders) - 1 - folders[::-1].index(class_name)]
        for word in itertools.chain.from_iterable(map(part_of, folders)):
            return PARTS[word[:2]]
    return ""


def given_parts(index: Index, groups: Sequence[Sequence[int]], part_of_name: dict[str, str]) -> dict[str, list[int]]:
    """Return the rows of each part that folders name; empty unless every photo is in one, some to train and test on.

    A group with photos in several parts is in the first of them alone, and a line says so. Without a folder of test
    photos those of validation are for tests.
    """
    rows_of_part: dict[str, list[int]] = {part: [] for part in PARTS.values()}
    moved = 0
    for rows in groups:
        parts = {part_of_name[index.names[row]] for row in rows}
        if "" in parts:
            return {}
        first = next(part for part in rows_of_part if part in parts)
        rows_of_part[first] += rows
        moved += len(parts) > 1
    rows_of_part = _with_tests(rows_of_part)
    if moved:
        outcome = "they are in the first: train, val, test" if rows_of_part else "so photos are divided anew"
        print(f"note: {moved} groups of copies, versions or frames have photos in several parts: {outcome}")
    return {part: sorted(rows) for part, rows in rows_of_part.items() if rows}


def _with_tests(rows_of_part: dict[str, list[int]]) -> dict[str, list[int]]:
    """Return the parts, without test photos those of validation for tests; empty if one side has no photo."""
    if not rows_of_part["test"]:
        rows_of_part["test"] = rows_of_part.pop("validation")
    return rows_of_part if rows_of_part["train"] and rows_of_part["test"] else {}


def split(index: Index, groups: Sequence[Sequence[int]]) -> dict[str, list[int]]:
    """Return the rows of the training and test images; each class is split in about the same proportion.

    Photos, each a group of rows (``photo_groups``), are ordered by the rarest class that they show; their order for a
    class depends on their names alone.
    """
    image_counts = (index.areas[:, 1:] > 0).sum(0)  # per class
    photos = []
    for rows in groups:
        shown = np.flatnonzero((index.areas[rows, 1:] > 0).any(0))
        rarest = min(shown, key=lambda column: (image_counts[column], column), default=-1)
        name = Path(index.names[rows[0]]).name
        photos.append((rarest, hashlib.sha256(name.encode()).hexdigest(), rows))
    ordered = [rows for _, _, rows in sorted(photos)]
    is_test = np.array([int((place + 1) * TEST_SHARE) > int(place * TEST_SHARE) for place in range(len(ordered))])
    shown_by = np.array([(index.areas[rows, 1:] >= LEAST_PIXELS).any(0) for rows in ordered])
    _give_each_side_enough(is_test, shown_by)
    test = {row for rows, tests in zip(ordered, is_test, strict=True) if tests for row in rows}
    return {"train": [row for row in range(len(index)) if row not in test], "test": sorted(test)}


def _give_each_side_enough(is_test: np.ndarray, shown_by: np.ndarray) -> None:
    """Move photos to the other side, in place, until each class that can has ``LEAST_PHOTOS`` on both.

    Args:
        is_test: whether a photo is for testing, (photos,) bool.
        shown_by: which classes it shows, (photos, classes) bool.
    """
    can = shown_by.sum(0) >= 2 * LEAST_PHOTOS
    for column in np.flatnonzero(can):
        for side in (True, False):
            for place in np.flatnonzero(shown_by[:, column] & (is_test != side)):
                has = shown_by[is_test == side, column].sum()
                left = shown_by[is_test != side].sum(0) - shown_by[place]
                if has < LEAST_PHOTOS and (left >= LEAST_PHOTOS)[can & shown_by[place]].all():
                    is_test[place] = side


def assign_folds(index: Index, classes: list[str], folds: int) -> list[list[str]]:
    """Return the classes of each fold, assigned so that each fold gets frequent and rare classes."""
    image_counts = (index.areas[:, 1:] > 0).sum(0)
    by_frequency = sorted(range(len(classes)), key=lambda column: (-image_counts[column], column))
    turns = itertools.cycle((*range(folds), *reversed(range(folds))))  # every second round goes backwards
    fold_classes: list[list[str]] = [[] for _ in range(folds)]
    for fold, column in zip(turns, by_frequency):
        fold_classes[fold].append(classes[column])
    return fold_classes
