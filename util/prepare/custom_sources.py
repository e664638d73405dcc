"""Import of a user's photos, with masks or annotations in one of the known formats, as the files of a data set."""

from __future__ import annotations

import argparse
import re
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from util.data.images.read import read_image, read_mask, write_mask
from util.data.lists.index import measure
from util.errors import UserError, nearest
from util.files import link
from util.formats import recognise
from util.formats.annotations import Annotations, Photo, PhotoFiles
from util.formats.masks import MASK_SUFFIX, check_unique, pairs
from util.formats.masks import read_class_names as read_names
from util.formats.painting import label_of
from util.parallel import attempt, parallel_map
from util.prepare.common import keep_good

MIN_CLASSES, MAX_CLASSES = 2, 254  # ids 1..254; 255 is ignored


@dataclass(frozen=True)
class Imported:
    """The imported images and classes."""

    names: list[str]  # of the images
    classes: list[str]  # in the order of their ids
    suffix: str  # of the photos


def from_masks(options: argparse.Namespace, out: Path) -> Imported:
    """Link photos and their masks (PNGs of class indices with the same stem) into ``out``.

    Raises:
        UserError: there are no photos, none has a mask, or files do not fit together.
    """
    classes, photos = read_class_names(options.classes), [p for p, _ in pairs(options.images, options.masks)]
    masked = set(photos)
    if lacking := [path for path in PhotoFiles(options.images).paths if path not in masked]:
        print(f"left out, without a mask: {len(lacking)} photos, such as {lacking[0]}")
    names, suffix = _names(photos)
    check = partial(attempt, partial(_import_masked, masks=options.masks, out=out, suffix=suffix, classes=len(classes)))
    good: dict[str, None] = keep_good(
        names, parallel_map(check, list(zip(names, photos, strict=True)), "photos and masks"), options.skip_bad
    )
    return Imported(list(good), classes, suffix)


def from_annotations(options: argparse.Namespace, out: Path) -> Imported:
    """Link the annotated photos into ``out`` and draw their masks from ``--annotations``.

    Class ids follow the order of ``--classes`` if given, else ascending category ids.

    Raises:
        UserError: a class name is no category, no photo is annotated, or files do not fit together.
    """
    source, annotations = options.annotations, recognise.read(options.annotations, options.images)[1]
    by_name = {name: category for category, name in annotations.categories.items()}
    if len(by_name) < len(annotations.categories):
        raise UserError(f"{source}: two categories have the same name; rename or merge them")
    classes = read_class_names(options.classes) if options.classes else _annotated_names(annotations)
    _check_names(classes, Path(source))
    for name in classes:
        if name not in by_name:
            raise UserError(f"{options.classes}: '{name}' is no category of {source}{nearest(name, by_name)}")
    table = {by_name[name]: number for number, name in enumerate(classes, 1)}
    photos = [p for p in annotations.annotated if any(i.category in table for i in p.instances)]
    if not photos:
        raise UserError(f"{source}: no image shows one of the classes; check --classes")
    names, suffix = _names([Path(p.name) for p in photos])
    draw = partial(_import_annotated, images=options.images, out=out, suffix=suffix, table=table, source=Path(source))
    check = partial(attempt, draw)
    good: dict[str, None] = keep_good(
        names, parallel_map(check, list(zip(names, photos, strict=True)), "photos and masks"), options.skip_bad
    )
    return Imported(list(good), classes, suffix)


def annotation_files(options: argparse.Namespace) -> list[Path]:
    """Return the files that ``--annotations`` stands for; none without it.

    Raises:
        UserError: the path has no known format.
    """
    if options.annotations is None:
        return []
    path = recognise.recognise(options.annotations, options.images)[1]
    return sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]


def _annotated_names(annotations: Annotations) -> list[str]:
    """Return the names of the categories that an image shows, by ascending id; print those that none shows."""
    shown = {i.category for photo in annotations.annotated for i in photo.instances if not i.crowd}
    left_out = [name for category, name in annotations.categories.items() if category not in shown]
    if left_out:
        print(f"left out, on no image: {', '.join(left_out)}")
    return [name for category, name in annotations.categories.items() if category in shown]


def read_class_names(path: Path) -> list[str]:
    """Return the class names of a file, one per line, as many as a data set can have.

    Raises:
        UserError: as ``util.formats.masks.read_class_names``, or there are too few or too many.
    """
    names = read_names(path)
    _check_names(names, path)
    return names


def _names(photos: list[Path]) -> tuple[list[str], str]:
    """Return the image names of photos and the common suffix of their links (readers ignore a photo's suffix).

    A list has one word for each image, so spaces in a file's name become underscores.
    """
    names = [re.sub(r"\s+", "_", p.stem) for p in photos]
    twice = next((n for n, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise UserError(f"two photos are named '{twice}'; rename one")
    return names, Counter(p.suffix for p in photos).most_common(1)[0][0]


def _import_masked(item: tuple[str, Path], masks: Path, out: Path, suffix: str, classes: int) -> None:
    name, photo = item
    mask = masks / f"{photo.stem}{MASK_SUFFIX}"
    read_image(photo)
    measure((photo, mask), classes)
    link(photo, out / "images" / f"{name}{suffix}")
    link(mask, out / "masks" / f"{name}{MASK_SUFFIX}")


def _import_annotated(
    item: tuple[str, Photo], images: Path, out: Path, suffix: str, table: dict[int, int], source: Path
) -> None:
    name, photo = item
    path, target = images / photo.name, out / "masks" / f"{name}{MASK_SUFFIX}"
    read_image(path)
    mask = label_of(photo, path, table, source)
    if not _holds(target, mask):
        write_mask(target, mask)
    link(path, out / "images" / f"{name}{suffix}")


def _holds(path: Path, mask: np.ndarray) -> bool:
    try:
        return path.exists() and np.array_equal(read_mask(path), mask)
    except UserError:
        return False


def _check_names(names: list[str], path: Path) -> None:
    if not MIN_CLASSES <= len(names) <= MAX_CLASSES:
        raise UserError(f"{path}: {len(names)} classes; few-shot segmentation needs {MIN_CLASSES}..{MAX_CLASSES}")
    check_unique(names, path)
