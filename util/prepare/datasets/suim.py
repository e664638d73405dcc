"""Prepare SUIM (underwater photos): masks of seven classes.

--root holds photos <stem>.jpg in folders images/ and, in folders masks/ beside them, either masks <stem>.bmp of colours
(the official form) or a folder for each class (FV, HD, PF, RI, RO, SR, WR) of masks <stem>.*, at any depth. Masks
without a pixel of their class are left out. Creates images (links), masks and lists/test.txt: the data set is for
tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from util.data.images.read import read_image
from util.errors import UserError
from util.files import link
from util.prepare.datasets.one_class import THRESHOLD, Mask, fit_and_write, line_of, open_mask, plan_of
from util.prepare.datasets.recipe import IMAGES, MASKS, RESIZED, Made, Plan, classes_of, one_each

ROOT = "folder of images and masks"
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


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of SUIM, from masks of classes or of colours.

    Raises:
        UserError: there are neither.
    """
    classes = classes_of("suim")
    published = {"test": PUBLISHED, **dict.fromkeys(classes)}
    folders = [p.parent / "masks" for p in sorted(options.root.rglob("images")) if (p.parent / "masks").is_dir()]
    files = [(code, p) for f in folders for code in CODES for p in sorted((f / code).glob("*"))]
    single = [(code, p) for code, p in files if p.suffix.lower() in SUFFIXES]
    coloured = [p for folder in folders for p in sorted(folder.iterdir()) if p.suffix.lower() == ".bmp"]
    if single:
        found = one_each(((f"{code}/{path.stem}", path) for code, path in single), options.skip_bad)
        masks = []
        for name, path in found.items():
            number, photo = list(CODES).index(path.parent.name), f"{path.stem}.jpg"
            source = path.parents[2] / "images" / photo
            masks.append(Mask(("test",), name, number + 1, photo, source, path, classes[number]))
        notes = [f"{len(coloured)} masks of colours beside masks of classes are not used"] * bool(coloured)
        return plan_of(masks, classes, notes=notes, published=published)
    if not coloured:
        raise UserError(
            f"{options.root}: holds no folder images beside masks with *.bmp or with folders FV, HD, ...; "
            "unpack SUIM there"
        )
    sources = [path for source in coloured for path in (_photo_of(source), source)]
    return Plan(lambda: coloured, _Colours(classes), sources, (*coloured, *classes), published=published)


def _photo_of(source: Path) -> Path:
    """Return the photo of a mask of colours."""
    return source.parents[1] / "images" / f"{source.stem}.jpg"


class _Colours:
    """Links a photo and writes a mask for each class that its mask of colours shows."""

    def __init__(self, classes: list[str]):
        self.classes = classes

    def __call__(self, source: Path, out: Path, since: int) -> Made:
        photo = _photo_of(source)
        read_image(photo)
        colours = np.asarray(open_mask(source, "RGB"))
        unclear = ((colours >= UNCLEAR[0]) & (colours < UNCLEAR[1])).any(2)
        if unclear.mean() > MAX_UNCLEAR:
            red, green, blue = colours[unclear][0]
            raise UserError(
                f"{source}: {unclear.mean():.0%} of its pixels have none of SUIM's eight colours, such as "
                f"{red},{green},{blue}; restore this mask, or leave it out with --skip-bad"
            )
        bits = colours >= THRESHOLD
        lines, counted = [], []
        for class_id, (code, wanted) in enumerate(CODES.items(), 1):
            mask = (bits == np.array(wanted, bool)).all(2)
            if mask.any():
                name = f"{code}/{source.stem}"
                resized = fit_and_write(photo, source, mask.astype(np.uint8), out / MASKS / f"{name}.png")
                counted += [self.classes[class_id - 1], *([RESIZED] if resized else [])]
                lines.append(("test", line_of(name, class_id, photo.name)))
        link(photo, out / IMAGES / photo.name)
        return Made(tuple(lines), tuple(counted))
