"""Prepare SUIM (underwater photos): masks of seven classes.

--root holds photos <stem>.jpg in folders images/ and, in folders masks/ beside them, either masks <stem>.bmp of colours
(the official form) or a folder for each class (FV, HD, PF, RI, RO, SR, WR) of masks <stem>.*, at any depth. Masks
without a pixel of their class are left out. Creates images (links), masks and lists/test.txt: the data set is for
tests.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from util.data.images.read import read_image
from util.errors import UserError
from util.files import link
from util.prepare.common import add_root_options, existing
from util.prepare.datasets import class_masks
from util.prepare.datasets.class_masks import IMAGES, MASKS, Made, Mask
from util.prepare.datasets.grey_masks import THRESHOLD, fit_and_write, open_mask, prepare_masks

NAME, OUT = "suim", "data/suim"
# Folder of a class -> whether red, green and blue are set in the official masks; in the order of the class ids.
CODES = {
    "FV": (1, 1, 0),
    "HD": (0, 0, 1),
    "PF": (0, 1, 0),
    "RI": (1, 0, 1),
    "RO": (1, 0, 0),
    "SR": (1, 1, 1),
    "WR": (0, 1, 1),
}
PUBLISHED = 3859  # masks that are not empty
UNCLEAR, MAX_UNCLEAR = (64, 192), 0.05  # values between off and on; share of a mask's pixels that may have one
SUFFIXES = (".png", ".bmp", ".jpg")


@dataclass(frozen=True)
class Coloured:
    """A photo and its mask of colours."""

    photo: Path
    source: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of images and masks", OUT)


def run(options: argparse.Namespace) -> int:
    """Prepare SUIM and print the number of masks of each class.

    Raises:
        UserError: a photo or a mask is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    classes = class_masks.settings_of(NAME).classes
    folders = [path for path in sorted(options.root.rglob("images")) if (path.parent / "masks").is_dir()]
    single = [mask for folder in folders for mask in masks_of_classes(folder)]
    coloured = [pair for folder in folders for pair in coloured_masks(folder)]
    if single:
        masks = class_masks.refuse_repeated(single, options.skip_bad)
        notes = [f"{len(coloured)} masks of colours beside masks of classes are not used"] * bool(coloured)
        facts = prepare_masks(options, masks, classes, notes)
    elif coloured:
        sources = existing(path for pair in coloured for path in (pair.photo, pair.source))
        facts = class_masks.make_all(options.out, coloured, part_colours, sources, classes, (), options.skip_bad)
    else:
        raise UserError(
            f"{options.root}: holds no folder images beside masks with *.bmp or with folders FV, HD, ...; "
            "unpack SUIM there"
        )
    class_masks.print_facts(facts, {"test": PUBLISHED})
    for name in classes:
        print(f"  {name}: {facts.per_class.get(name, 0)}")
    return 0


def masks_of_classes(photos: Path) -> list[Mask]:
    """Return the masks in a folder for each class, beside a folder of photos."""
    out = []
    for class_id, code in enumerate(CODES, 1):
        for path in sorted((photos.parent / "masks" / code).glob("*")):
            if path.suffix.lower() in SUFFIXES:
                name = f"{path.stem}.jpg"
                out.append(Mask("test", f"{code}/{path.stem}", class_id, name, photos / name, path))
    return out


def coloured_masks(photos: Path) -> list[Coloured]:
    """Return the masks of colours beside a folder of photos."""
    found = sorted(p for p in (photos.parent / "masks").iterdir() if p.suffix.lower() == ".bmp")
    return [Coloured(photos / f"{path.stem}.jpg", path) for path in found]


def part_colours(pair: Coloured, out: Path, since: int) -> Made:
    """Link a photo and write a mask for each class that its mask of colours shows.

    Raises:
        UserError: photo or mask is missing or damaged, or the mask has other colours.
    """
    read_image(pair.photo)
    colours = np.asarray(open_mask(pair.source, "RGB"))
    unclear = ((colours >= UNCLEAR[0]) & (colours < UNCLEAR[1])).any(2)
    if unclear.mean() > MAX_UNCLEAR:
        red, green, blue = colours[unclear][0]
        raise UserError(
            f"{pair.source}: {unclear.mean():.0%} of its pixels have none of SUIM's eight colours, such as "
            f"{red},{green},{blue}; restore this mask, or leave it out with --skip-bad"
        )
    bits = colours >= THRESHOLD
    lines, resized, name = [], 0, pair.photo.name
    for class_id, (code, wanted) in enumerate(CODES.items(), 1):
        mask = (bits == np.array(wanted, bool)).all(2)
        if mask.any():
            target = out / MASKS / code / f"{pair.source.stem}.png"
            resized += fit_and_write(pair.photo, pair.source, mask.astype(np.uint8), target)
            lines.append(("test", f"{code}/{pair.source.stem}", class_id, name))
    link(pair.photo, out / IMAGES / name)
    return Made(tuple(lines), resized=resized)
