"""The plans of data sets of one's own: photos with masks, or with annotations in one of the known formats."""

import argparse
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from model.episode import IGNORE
from util.config.folds import MAX_INDEX
from util.data.images.read import header_of, opened_mask, read_mask
from util.errors import UserError, nearest
from util.formats import recognise
from util.formats.annotations import Annotations, PhotoFiles
from util.formats.masks import check_unique, class_folders, pairs, read_class_names
from util.formats.painting import label_of
from util.parallel import attempt
from util.prepare.datasets.recipe import THRESHOLD, Job, Piece, Plan, by_name, fitted, grey, labels

ALL = "all"  # the list of all images
SPACE = re.compile(r"\s+")  # lists have a word for each image


def from_masks(options: argparse.Namespace) -> Plan:
    """Return the plan of photos and their masks: PNGs of class indices with the same stem, or a folder for each class.

    Raises:
        UserError: there are no photos, none has a mask, two have one name, or nothing tells the classes of masks.
    """
    if not options.masks.is_dir():
        raise UserError(f"--masks {options.masks}: this folder does not exist; check its name")
    if folders := class_folders(options.masks):
        return _from_class_folders(options, folders)
    if options.classes is None:
        mend = "one class per line, the first is id 1; or a folder of masks for each class, <class>/photo.png"
        raise UserError(f"prepare.py custom: --masks needs --classes names.txt, {mend}")
    classes, masks = read_class_names(options.classes), dict(pairs(options.images, options.masks))
    known = {*masks, *masks.values()}
    if lacking := [path for path in PhotoFiles(options.images).paths if path not in known]:
        print(f"left out, without a mask: {len(lacking)} photos, such as {lacking[0]}")
    white = all(_is_white(mask) for mask in tqdm(masks.values(), desc="masks", unit="mask", leave=False))
    if white:
        _confirm_white(options, classes)
    return _plan(masks.items(), one_class if white else partial(labels, classes=len(classes)), classes)


def _is_white(mask: Path) -> bool:
    """Return whether a mask holds 0 and 255 alone; the error of a damaged one is its job's."""
    values = attempt(read_mask, mask)
    return isinstance(values, np.ndarray) and not (values % IGNORE).any()


def _confirm_white(options: argparse.Namespace, classes: list[str]) -> None:
    """Refuse (UserError) masks of 0 and 255 unless 255 is the only class: by the option, or as the user answers."""
    if len(classes) > 1:
        mend = "put those of each class into a folder of its own, <class>/photo.png"
        raise UserError(f"{options.masks}: masks of 0 and 255 do not tell {len(classes)} classes apart; {mend}")
    confirmed = options.white_is_object
    if not confirmed and sys.stdin.isatty():
        print(f"the masks hold 0 and 255 alone: is 255 the object, {classes[0]}? [y/n] ", end="", flush=True)
        confirmed = sys.stdin.readline().strip().lower() in ("y", "yes")
    if not confirmed:
        mend = "confirm with --white-is-object that 255 is the object, or give its pixels the value 1"
        raise UserError(f"{options.masks}: the masks hold 0 and 255 alone; {mend}")


def _from_class_folders(options: argparse.Namespace, folders: dict[str, tuple[Path, Path]]) -> Plan:
    """Return the plan of masks in a folder for each class; their photos lie in such folders too, or all in one.

    Photos with the same content are one photo, which has several classes.

    Raises:
        UserError: a class has no folder, no mask has a photo, or one photo has two masks of a class.
    """
    classes = read_class_names(options.classes) if options.classes else list(folders)
    for name in classes:
        if name not in folders:
            raise UserError(f"{options.classes}: '{name}' is no folder of {options.masks}{nearest(name, folders)}")
    masks = {mask: name for name in classes for mask in sorted(folders[name][1].glob("*.png"))}
    photos = {path.with_suffix(""): path for path in PhotoFiles(options.images).paths if path not in masks}
    jobs, used, first = [], set[Path](), dict[bytes, Path]()
    for mask, name in masks.items():
        places = (folder / mask.stem for folder in (options.images / name, options.images, folders[name][0]))
        if (photo := next((photos[place] for place in places if place in photos), None)) is None:
            continue
        used |= {mask, photo}
        photo = first.setdefault(hashlib.sha256(photo.read_bytes()).digest(), photo)
        of_mask, of_photo = (
            SPACE.sub("_", str(path)) for path in (Path(name, mask.stem), photo.relative_to(options.images))
        )
        jobs.append(Job(photo, mask, of_mask, classes.index(name) + 1, of_photo, (ALL,)))
    if not jobs:
        mend = f"name photos like masks: {min(masks).stem}.jpg, there or in a folder of the class"
        raise UserError(f"{options.masks}: no mask has a photo in {options.images}; {mend}")
    by_name((job.photo_name, job.photo) for job in jobs)
    by_name((f"{classes[job.class_id - 1]} of {job.photo_name}", job.source) for job in jobs)
    for what, there in (("mask", photos.values()), ("photo", masks)):
        if lost := {*there} - used:
            print(f"left out, without a {what}: {len(lost)} files, such as {min(lost)}")
    return Plan(jobs, one_class, classes, parts=(ALL,), suffix="")


def one_class(job: Job, image: np.ndarray) -> Iterator[Piece]:
    """Yield a mask of one class, whose pixels have one value; 255 beside a small one is ignored, as in class ids.

    Raises:
        UserError: as ``grey``, which reads masks of several values.
    """
    with opened_mask(job.source) as stored:
        values = np.asarray(stored if stored.mode in ("1", "L", "P") else stored.convert("L")).astype(np.uint8)
    if values.shape not in (header_of(job.photo)[0], image.shape[:2]):
        sizes = f"is {values.shape} (height, width), its photo {image.shape[:2]}"
        raise UserError(f"{job.source}: {sizes}; export it in the photo's size")
    own, *others = [value for value in np.unique(values) if value] or [0]
    if others and (others != [IGNORE] or own >= THRESHOLD):
        yield from grey(job, image)
    elif own:
        mask = np.where(values == own, 1, IGNORE * (values == IGNORE)).astype(np.uint8)
        yield Piece(job.line, fitted(job, image, mask))


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
    """Yield the mask of a photo's annotations; errors as ``label_of``."""
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
    named = by_name((SPACE.sub("_", path.stem), path) for path, _ in sources)
    jobs = [Job(path, of, name, parts=(ALL,)) for name, (path, of) in zip(named, sources, strict=True)]
    suffixes = Counter(path.suffix for path, _ in sources)
    return Plan(jobs, read, classes, parts=(ALL,), suffix=max(suffixes, key=suffixes.__getitem__, default=""))
