"""The plans of data sets of one's own: photos with masks, or with annotations in one of the known formats."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from util.config.folds import MAX_INDEX
from util.errors import UserError, nearest
from util.formats import recognise
from util.formats.annotations import Annotations, PhotoFiles
from util.formats.masks import check_unique, pairs, read_class_names
from util.formats.painting import label_of
from util.prepare.datasets.recipe import Job, Piece, Plan, by_name, labels

ALL = "all"  # the list of all images


def from_masks(options: argparse.Namespace) -> Plan:
    """Return the plan of photos and their masks (PNGs of class indices with the same stem).

    Raises:
        UserError: there are no photos, none has a mask, or two have one name.
    """
    classes, masks = read_class_names(options.classes), dict(pairs(options.images, options.masks))
    if lacking := [path for path in PhotoFiles(options.images).paths if path not in masks]:
        print(f"left out, without a mask: {len(lacking)} photos, such as {lacking[0]}")
    return _plan(masks.items(), partial(labels, classes=len(classes)), classes)


def from_annotations(options: argparse.Namespace) -> Plan:
    """Return the plan of the annotated photos of ``--annotations``.

    Class ids follow the order of ``--classes`` if given, else ascending category ids.

    Raises:
        UserError: a class name is no category, or two categories or photos have one name.
    """
    source, annotations = Path(options.annotations), recognise.read(options.annotations, options.images)[1]
    check_unique(list(annotations.categories.values()), source)
    by_category = {name: category for category, name in annotations.categories.items()}
    classes = read_class_names(options.classes) if options.classes else _annotated_names(annotations)
    for name in classes:
        if name not in by_category:
            raise UserError(f"{options.classes}: '{name}' is no category of {source}{nearest(name, by_category)}")
    table = {by_category[name]: number for number, name in enumerate(classes, 1)}
    photos = [p for p in annotations.annotated if any(instance.category in table for instance in p.instances)]
    return _plan(((options.images / p.name, p) for p in photos), partial(draw, table=table), classes)


def draw(job: Job, image: np.ndarray, table: dict[int, int]) -> Iterator[Piece]:
    """Yield the mask of a photo's annotations.

    Raises:
        UserError: they do not fit the photo.
    """
    yield Piece(job.line, label_of(job.source, job.photo, table))


def annotation_files(options: argparse.Namespace) -> list[Path]:
    """Return the files that ``--annotations`` stands for; none without it.

    Raises:
        UserError: the path has no known format.
    """
    if options.annotations is None:
        return []
    path = recognise.recognise(options.annotations)[1]
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _annotated_names(annotations: Annotations) -> list[str]:
    """Return the names of the categories that an image shows, by ascending id; print those that none shows."""
    shown = {i.category for photo in annotations.annotated for i in photo.instances if not i.crowd}
    left_out = [name for category, name in annotations.categories.items() if category not in shown]
    if left_out:
        print(f"left out, on no image: {', '.join(left_out)}")
    return [name for category, name in annotations.categories.items() if category in shown]


def _plan(
    found: Iterable[tuple[Path, Any]], read: Callable[[Job, np.ndarray], Iterable[Piece]], classes: list[str]
) -> Plan:
    """Return the plan of photos and what their masks are made from.

    A list has one word for each image, so spaces in a file's name become underscores. All links have the suffix that
    most photos have; readers ignore it.

    Raises:
        UserError: two photos have one name, one is annotated in two entries, or masks cannot hold so many classes.
    """
    if len(classes) > MAX_INDEX:
        raise UserError(f"{len(classes)} classes: masks hold {MAX_INDEX}; name some of them in --classes names.txt")
    sources = list(found)
    named = by_name((re.sub(r"\s+", "_", path.stem), path) for path, _ in sources)
    jobs = [Job(path, of, name, parts=(ALL,)) for name, (path, of) in zip(named, sources, strict=True)]
    suffixes = Counter(path.suffix for path, _ in sources)
    return Plan(jobs, read, classes, parts=(ALL,), suffix=max(suffixes, key=suffixes.__getitem__, default=""))
