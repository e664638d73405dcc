"""Shared by the plans of own data sets: names in lists, choice of classes, background in place of unknown."""

import argparse
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from typing_extensions import Self

from annotations.mask_formats import read_mask_of
from annotations.mask_names import names_in
from datasets.make import add_out
from datasets.recipes.recipe import MaskJob, Piece, Plan, Read
from model.episode import IGNORE
from util.cli import comma_separated, within
from util.config.folds import MAX_INDEX
from util.files.errors import UserError, check_known, one_line

PLAIN_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png")
ALL = "all"  # the list of all images
SPACE = re.compile(r"\s+")  # lists have a word for each image


@dataclass(frozen=True)
class CustomOptions:
    """The options of ``prepare.py custom``; either ``masks`` or ``annotations`` is given."""

    images: Path
    masks: Any = None  # a Path, or None; so is ``annotations``, as text
    annotations: Any = None
    name: str = ""
    unconfirmed: bool = False
    white_is_object: bool = False
    unknown_is_background: bool = False
    classes: Path | None = None
    folds: int | None = None
    fold: list[list[str]] = field(default_factory=list)
    skip_rare: int = 1
    group: str | None = None
    out: Path = Path()
    skip_bad: bool = False

    @classmethod
    def declare(cls, parser: argparse.ArgumentParser) -> None:
        """Declare the options to a parser."""
        add = parser.add_argument
        add("--name", required=True, help="name of the data set: lower-case letters, digits, _")
        add("--images", type=Path, required=True, metavar="DIR", help="folder of photos")
        marked = parser.add_mutually_exclusive_group(required=True)
        marked.add_argument(
            "--masks", type=Path, metavar="DIR", help="folder of masks, or of one folder for each class"
        )
        marked.add_argument(
            "--annotations",
            metavar="PATH",
            help="file or folder of COCO, labelme, Label Studio or YOLO, or results of predict.py",
        )
        add("--unconfirmed", action="store_true", help="take masks of predict.py that no person has confirmed, too")
        add("--white-is-object", action="store_true", help="255 is the object in masks of 0 and 255")
        add(
            "--unknown-is-background",
            action="store_true",
            help="pixels of 255 are background, in masks in which 255 surrounds the objects",
        )
        add("--classes", type=Path, metavar="NAMES", help="class names: cat,dog or names.txt with a name per line")
        add("--folds", type=within(int, 2), help="number of folds (default: at most 4, or that of --fold)")
        add(
            "--fold",
            type=comma_separated,
            action="append",
            default=[],
            metavar="NAMES",
            help="a fold's novel classes, such as cat,dog; repeat it for each fold",
        )
        add(
            "--skip-rare",
            type=within(int, 1),
            default=1,
            metavar="N",
            help="leave out classes with fewer than N photos",
        )
        add(
            "--group",
            metavar="REGEX",
            help="what the names of photos of a group, such as a film, have in common; '.+' groups none by their names",
        )
        add_out(parser, "data/<name>")

    @classmethod
    def of(cls, parsed: argparse.Namespace) -> Self:
        """Return the values that a parser has found."""
        options = cls(**{entry.name: getattr(parsed, entry.name) for entry in fields(cls)})
        return replace(options, out=Path(str(options.out).replace("<name>", options.name)))


def plan_of(
    sources: Iterable[tuple[Path, Any]],
    read: Read,
    classes: list[str],
    images: Path,
) -> Plan:
    """Return the plan of photos below ``images``, each with what its mask is made from.

    All links have the suffix that most photos have, of those that are not converted; readers ignore it. UserError: two
    photos have one name, one is annotated in two entries, or masks cannot hold so many classes.
    """
    if len(classes) > MAX_INDEX:
        raise UserError(f"{len(classes)} classes: a mask holds at most {MAX_INDEX}; name fewer in --classes names.txt")
    sources = list(sources)
    names = _names_in_lists([photo for photo, _ in sources], images)
    jobs = [MaskJob(photo, source, names[photo], parts=(ALL,)) for photo, source in sources]
    suffixes = Counter(photo.suffix for photo, _ in sources if photo.suffix.lower() in PLAIN_SUFFIXES)
    most_frequent = max(suffixes, key=suffixes.__getitem__, default=".png")
    return Plan(jobs, read, classes, parts=(ALL,), suffix=most_frequent)


def _names_in_lists(photos: Sequence[Path], images: Path) -> dict[Path, str]:
    """Return the name of each photo in lists: its stem, with its folders where another has that stem.

    A list has one word for each image, so spaces become underscores. UserError: two names are equal.
    """
    count_of_stem = Counter(word(photo.stem) for photo in photos)
    names: dict[str, Path] = {}
    for photo in photos:
        name = word(photo.stem)
        if count_of_stem[name] > 1:
            name = word(Path(os.path.relpath(photo, images)).with_suffix("").as_posix())
        if name in names:
            raise UserError(f"{names[name]} and {photo} are both {name} in lists; rename one")
        names[name] = photo
    return {photo: name for name, photo in names.items()}


def word(name: str) -> str:
    """Return a name as one word of a list."""
    return SPACE.sub("_", name)


def rare_classes(options: CustomOptions, photos_with: Mapping[str, int]) -> list[str]:
    """Return the classes that fewer photos show than ``--skip-rare``; a line names them. UserError: all are."""
    least = options.skip_rare
    rare = {name: count for name, count in photos_with.items() if count < least}
    if least == 1 or not rare:
        return []
    if len(rare) == len(photos_with):
        raise UserError(f"--skip-rare {least}: no class is on so many photos (at most {max(rare.values())}); lower it")
    print(one_line(f"left out, on fewer than {least} photos: {counted(rare)}"))
    return list(rare)


def counted(counts: Mapping[str, int]) -> str:
    """Return names with their counts, as in ``cat (3), dog (1)``."""
    return ", ".join(f"{name} ({count})" for name, count in counts.items())


def selected_classes(path: Path, known: Collection[str], kind: str) -> list[str]:
    """Return the classes that ``--classes`` gives; UserError: one is not ``known``, so that it is no ``kind``."""
    classes = [*names_in(path).classes.values()]
    for name in classes:
        check_known(name, known, f"{path}: '{name}' is no {kind}")
    return classes


def with_background(plan: Plan) -> Plan:
    """Return a plan whose masks have background in place of unknown pixels."""
    return replace(plan, read=partial(_without_unknown, read=plan.read))


def _without_unknown(job: MaskJob, image: np.ndarray, read: Read) -> Piece | None:
    piece = read(job, image)
    if piece is None:
        return None
    mask = read_mask_of(job.photo, piece.mask) if isinstance(piece.mask, Path) else piece.mask
    return piece._replace(mask=np.where(mask == IGNORE, 0, mask).astype(np.uint8))
