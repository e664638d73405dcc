"""The plans of data sets of one's own: photos with masks, or with annotations in one of the known formats."""

import argparse
import hashlib
import re
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from model.episode import IGNORE
from util.config.folds import MAX_INDEX
from util.data.images.read import fitted_mask, header_of, read_mask, read_mask_of
from util.data.images.region import read_region
from util.errors import UserError, nearest
from util.formats import recognise
from util.formats.annotations import label_of
from util.formats.masks import (
    MaskNames,
    check_unique,
    class_folders,
    folders_in,
    masks_in,
    names_beside,
    pairs,
    read_class_names,
    read_names,
)
from util.formats.photo_files import PhotoFiles, name_key
from util.parallel import attempt
from util.prepare.datasets.recipe import MaskJob, Piece, Plan, by_name, labels
from util.progress import ProgressBar

ALL = "all"  # the list of all images
SPACE = re.compile(r"\s+")  # lists have a word for each image


def from_masks(options: argparse.Namespace) -> Plan:
    """Return the plan of photos and their masks: PNGs of class indices with the same stem, or a folder for each class.

    Masks in colours need a label map. UserError: there are no photos, none has a mask, two have one name, or nothing
    tells the classes of masks: those of 0 and 255 need a single class, and the option or an answer that 255 is the
    object.
    """
    if not options.masks.is_dir():
        raise UserError(f"--masks {options.masks}: this folder does not exist; check its name")
    _, folder = folders_in(options.masks, options.images)
    if folders := class_folders(folder):
        return _from_class_folders(options, folders)
    if (known := names_of(options)) is None:
        fix = "one class per line, the first is id 1; or a folder of masks for each class, <class>/photo.png"
        raise UserError(f"prepare.py custom: --masks needs --classes names.txt, {fix}")
    photos, _ = folders_in(options.images)
    masks = dict(pairs(photos, folder))
    used = {*masks, *masks.values()}
    if lacking := [path for path in PhotoFiles(photos).paths if path not in used]:
        print(f"left out, without a mask: {len(lacking)} photos, such as {lacking[0]}")
    photos_with, read = _photos_with_values(masks.values(), known)
    if not read or photos_with:
        counts = {name: photos_with[value] for value, name in known.classes.items()} if read else {}
        rare = _rare(options, counts)
        classes = [name for name in known.classes.values() if name not in rare]
        return _plan(masks.items(), partial(_of_values, known=known, rare=rare), classes)
    classes = [*known.classes.values()]
    if len(classes) > 1:
        fix = "put those of each class into a folder of its own, <class>/photo.png"
        raise UserError(f"{options.masks}: masks of 0 and 255 do not tell {len(classes)} classes apart; {fix}")
    if not (options.white_is_object or _confirms_white(classes[0])):
        fix = "confirm with --white-is-object that 255 is the object, or give its pixels the value 1"
        raise UserError(f"{options.masks}: the masks hold 0 and 255 alone; {fix}")
    return _plan(masks.items(), one_class, classes)


def names_of(options: argparse.Namespace) -> MaskNames | None:
    """Return the names in ``--classes``, else those in a label map beside the masks; None without either."""
    if options.classes is not None:
        return read_names(options.classes)
    known = names_beside(folders_in(options.masks, options.images)[1])
    return known if known is not None and known.colours is not None else None


def _confirms_white(name: str) -> bool:
    """Ask, if there is a terminal, whether 255 is the object."""
    if not sys.stdin.isatty():
        return False
    print(f"the masks hold 0 and 255 alone: is 255 the object, {name}? [y/n] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _photos_with_values(masks: Collection[Path], known: MaskNames) -> tuple[Counter[int], int]:
    """Return in how many masks each value but 0 and 255 occurs, and how many could be read as class ids.

    Those that could not are named by their jobs.
    """
    photos_with, read = Counter[int](), 0
    for mask in ProgressBar(masks, desc="masks", unit="mask", leave=False):
        ids = attempt(partial(read_mask, colours=known.colours), mask)
        if not isinstance(ids, UserError):
            read += 1
            photos_with.update({*np.unique(ids).tolist()} - {0, IGNORE})
    return photos_with, read


def _rare(options: argparse.Namespace, photos_with: Mapping[str, int]) -> list[str]:
    """Return the classes that fewer photos show than ``--skip-rare``; a line names them. UserError: all are."""
    least = getattr(options, "skip_rare", 1)  # the default of the command
    rare = {name: count for name, count in photos_with.items() if count < least} if least > 1 else {}
    if rare and len(rare) == len(photos_with):
        raise UserError(f"--skip-rare {least}: no class is on so many photos (at most {max(rare.values())}); lower it")
    if rare:
        named = ", ".join(f"{name} ({count})" for name, count in rare.items())
        print(f"left out, on fewer than {least} photos: {named}")
    return list(rare)


def _of_values(job: MaskJob, image: np.ndarray, known: MaskNames, rare: Sequence[str] = ()) -> Iterator[Piece]:
    """Yield a mask of class ids, anew where it has unknown values, or shows classes by colours or opacity.

    Pixels of ``rare`` classes are background. UserError: as ``labels`` and ``one_class``; or a value or a colour has no
    name.
    """
    given = attempt(partial(read_mask_of, job.photo, colours=known.colours), job.source)
    is_complete = known.colours is None and not rare and len(known.classes) == len(known.names)
    if isinstance(given, UserError) and len(known.names) == 1:
        yield from one_class(job, image)
    elif is_complete:
        yield from labels(job, image, len(known.names))
    elif isinstance(given, UserError):
        raise given
    elif missing := {*np.unique(given).tolist()} - {0, IGNORE, *known.names}:
        raise UserError(f"{job.source}: holds the value {min(missing)}, which the file of names does not have")
    else:
        kept = [value for value, name in known.classes.items() if name not in rare]
        table = np.full(IGNORE + 1, IGNORE, np.uint8)
        table[[0, *kept]] = range(len(kept) + 1)
        table[[value for value, name in known.classes.items() if name in rare]] = 0
        yield Piece(job.line, table[given])


def _from_class_folders(options: argparse.Namespace, folders: dict[str, tuple[Path, Path]]) -> Plan:
    """Return the plan of masks in a folder for each class; their photos lie in such folders too, or all in one.

    Photos with the same content are one photo, which has several classes. UserError: a class has no folder, no mask has
    a photo, or one photo has two masks of a class.
    """
    classes = [*filter(None, read_class_names(options.classes).values())] if options.classes else list(folders)
    for name in classes:
        if name not in folders:
            raise UserError(f"{options.classes}: '{name}' is no folder of {options.masks}{nearest(name, folders)}")
    rare = _rare(options, {name: len(masks_in(folders[name][1])) for name in classes})
    classes = [name for name in classes if name not in rare]
    masks = {mask: name for name in classes for mask in masks_in(folders[name][1])}
    photos = {(p.parent, name_key(p.stem)): p for p in PhotoFiles(options.images).paths if p not in masks}
    jobs, used, first = [], set[Path](), dict[bytes, Path]()
    for mask, name in masks.items():
        places = ((at, name_key(mask.stem)) for at in (options.images / name, options.images, folders[name][0]))
        if (photo := next((photos[place] for place in places if place in photos), None)) is None:
            continue
        used |= {mask, photo}
        photo = first.setdefault(hashlib.sha256(photo.read_bytes()).digest(), photo)
        of_mask = SPACE.sub("_", f"{name}/{mask.stem}")
        of_photo = SPACE.sub("_", str(photo.relative_to(options.images)))
        jobs.append(MaskJob(photo, mask, of_mask, classes.index(name) + 1, of_photo, (ALL,)))
    if not jobs:
        fix = f"name photos like masks: {min(masks).stem}.jpg, there or in a folder of the class"
        raise UserError(f"{options.masks}: no mask has a photo in {options.images}; {fix}")
    by_name((job.photo_name, job.photo) for job in jobs)
    by_name((f"{classes[job.class_id - 1]} of {job.photo_name}", job.source) for job in jobs)
    for what, there in (("mask", photos.values()), ("photo", masks)):
        if lost := {*there} - used:
            print(f"left out, without a {what}: {len(lost)} files, such as {min(lost)}")
    return Plan(jobs, one_class, classes, parts=(ALL,), suffix="")


def one_class(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield a mask of one class; errors as ``read_region`` and ``fitted_mask``."""
    label, is_upright = read_region(job.source, several=False)
    stored, orientation = header_of(job.photo)
    if label.shape not in (stored, image.shape[:2]):
        sizes = f"is {label.shape} (height, width), its photo {image.shape[:2]}"
        raise UserError(f"{job.source}: {sizes}; export it in the photo's size")
    if (label == 1).any():
        yield Piece(job.line, fitted_mask(label, is_upright, stored, orientation, job.source))


def from_annotations(options: argparse.Namespace) -> Plan:
    """Return the plan of the annotated photos of ``--annotations``.

    Class ids follow the order of ``--classes`` if given, else ascending category ids. UserError: a class name is no
    category, or two categories or photos have one name.
    """
    source, annotations = Path(options.annotations), recognise.read(options.annotations, options.images)
    check_unique(list(annotations.categories.values()), source)
    by_category = {name: category for category, name in annotations.categories.items()}
    shown = {i.category for photo in annotations.annotated for i in photo.instances if i.is_object}
    if options.classes:
        classes = [*filter(None, read_class_names(options.classes).values())]
    else:
        classes = [name for name, category in by_category.items() if category in shown]
        if absent := [name for name, category in by_category.items() if category not in shown]:
            print(f"left out, on no image: {', '.join(absent)}")
    for name in classes:
        if name not in by_category:
            raise UserError(f"{options.classes}: '{name}' is no category of {source}{nearest(name, by_category)}")
    on_photos = Counter(c for p in annotations.annotated for c in {i.category for i in p.instances if not i.crowd})
    rare = _rare(options, {name: on_photos[by_category[name]] for name in classes})
    classes = [name for name in classes if name not in rare]
    table = {by_category[name]: number for number, name in enumerate(classes, 1)}
    photos = [p for p in annotations.annotated if any(instance.category in table for instance in p.instances)]
    found = [attempt(annotations.path_of, photo) for photo in photos]
    if not options.skip_bad and (lost := next((one for one in found if isinstance(one, UserError)), None)):
        raise lost
    places = [options.images / p.name if isinstance(f, UserError) else f for f, p in zip(found, photos, strict=True)]
    return _plan(zip(places, photos, strict=True), partial(draw, table=table), classes)


def draw(job: MaskJob, image: np.ndarray, table: dict[int, int]) -> Iterator[Piece]:
    """Yield the mask of a photo's annotations; errors as ``label_of``."""
    yield Piece(job.line, label_of(job.source, job.photo, table))


def _plan(
    found: Iterable[tuple[Path, Any]], read: Callable[[MaskJob, np.ndarray], Iterable[Piece]], classes: list[str]
) -> Plan:
    """Return the plan of photos and what their masks are made from.

    A list has one word for each image, so spaces in a file's name become underscores. All links have the suffix that
    most photos have; readers ignore it. UserError: two photos have one name, one is annotated in two entries, or masks
    cannot hold so many classes.
    """
    if len(classes) > MAX_INDEX:
        raise UserError(f"{len(classes)} classes: masks hold {MAX_INDEX}; name some of them in --classes names.txt")
    sources = list(found)
    named = by_name((SPACE.sub("_", path.stem), path) for path, _ in sources)
    jobs = [MaskJob(path, of, name, parts=(ALL,)) for name, (path, of) in zip(named, sources, strict=True)]
    suffixes = Counter(path.suffix for path, _ in sources)
    return Plan(jobs, read, classes, parts=(ALL,), suffix=max(suffixes, key=suffixes.__getitem__, default=""))
