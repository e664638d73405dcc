"""Prepare DeepGlobe (land cover) as the cross-domain benchmark cuts it: tiles of 408 pixels, one mask per class.

--root holds one of the layouts that circulate:

  raw     <id>_sat.jpg and <id>_mask.png (2448 x 2448, colours), at any depth
  cut     <1..6>/test/origin/<tile>.jpg and <1..6>/test/groundtruth/<tile>.png, at any depth
  filter  image/<tile>.jpg and filter_mask/<1..6>/<tile>.png, at any depth

where a tile is <id>_ij, <id>_sat_ij or <id>_mask_ij: row i and column j of the 6 x 6 tiles of an image. Of the raw
form each tile is kept whose mask has at least two colours, of which the rarest covers more than 4.8 %; unknown (black)
counts as a colour but is no class. Creates images, masks and lists/test.txt: the data set is for tests.
"""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from util.data.images.read import read_image, write_mask
from util.errors import UserError
from util.files import write_atomically
from util.prepare.common import add_root_options, existing
from util.prepare.datasets import class_masks
from util.prepare.datasets.class_masks import IMAGES, MASKS, Facts, Made, Mask
from util.prepare.datasets.grey_masks import open_mask, prepare_masks

NAME, OUT = "deepglobe", "data/deepglobe"
GRID, SIDE = 6, 2448  # tiles along a side of an image; its pixels
RAREST = 0.048  # share of a tile that its rarest colour must exceed
COLOURS = {  # in the order of the class ids
    "agriculture": (255, 255, 0),
    "urban": (0, 255, 255),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
}
UNKNOWN = (0, 0, 0)
PUBLISHED, FOUND_BY_OTHERS = 5666, 9175  # stated by the paper; what users of its script report
RAW_PHOTO, RAW_MASK = re.compile(r"(\d+)_sat\.jpg", re.I), re.compile(r"(\d+)_mask\.png", re.I)
TILE = re.compile(r"(\d+)_(?:sat_|mask_)?([0-5]{2})\.(jpg|png)", re.I)
NUMBERS = tuple(map(str, range(1, len(COLOURS) + 1)))  # folders of the classes


@dataclass(frozen=True)
class Image:
    """A raw image: its id, photo and mask of colours."""

    number: str
    photo: Path
    source: Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder in one of the layouts above", OUT)


def run(options: argparse.Namespace) -> int:
    """Prepare DeepGlobe and print the number of masks of each class.

    Raises:
        UserError: files are missing, damaged or of another kind; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    files = sorted(path for path in options.root.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    raw = find_raw(files, options.skip_bad)
    tiles, notes = find_tiles(files, options.root, options.skip_bad)
    if raw and tiles:
        raise UserError(f"{options.root}: holds whole images and tiles, {raw[0].photo} and {tiles[0].photo}; name one")
    if not raw and not tiles:
        raise UserError(f"{options.root}: holds no <id>_sat.jpg with <id>_mask.png, and no tiles in folders 1 to 6")
    facts = _from_raw(raw, options) if raw else prepare_masks(options, tiles, list(COLOURS), notes)
    class_masks.print_facts(facts, {"test": PUBLISHED}, None)
    for name in COLOURS:
        print(f"  {name}: {facts.per_class.get(name, 0)}")
    if facts.masks["test"] != PUBLISHED:
        print(
            f"  the paper states {PUBLISHED}; its script gives others {FOUND_BY_OTHERS}: name the number with a result"
        )
    return 0


def find_raw(files: list[Path], skip_bad: bool) -> list[Image]:
    """Return the raw images; one without a mask is left to fail when it is read.

    The official validation and test images have no masks, so images beside which none has a mask are no raw data.

    Raises:
        UserError: two files have one name, and ``skip_bad`` is False.
    """
    photos, sources = (class_masks.by_name(files, pattern, skip_bad) for pattern in (RAW_PHOTO, RAW_MASK))
    masked = {path.parent for path in sources.values()}
    numbers = [n for n in sorted(photos) if n in sources or photos[n].parent in masked]
    numbers += [n for n in sorted(sources) if n not in photos]
    out = []
    for n in numbers:
        photo = photos.get(n) or sources[n].with_name(f"{n}_sat.jpg")
        out.append(Image(n, photo, sources.get(n) or photos[n].with_name(f"{n}_mask.png")))
    return out


def find_tiles(files: list[Path], root: Path, skip_bad: bool) -> tuple[list[Mask], list[str]]:
    """Return the masks of tiles that were cut before, by class and tile, and lines about what differs.

    Raises:
        UserError: two files are the same mask, and ``skip_bad`` is False.
    """
    photos: dict[tuple[str, str], Path] = {}
    sources: list[tuple[int, tuple[str, str], Path]] = []
    for path in files:
        match = TILE.fullmatch(path.name)
        if match is None:
            continue
        tile = match[1], match[2]
        if match[3].lower() == "jpg":
            photos.setdefault(tile, path)  # each class folder has a copy
            continue
        folders = [part for part in path.relative_to(root).parts[:-1] if part in NUMBERS]
        if folders:
            sources.append((int(folders[-1]), tile, path))
    masks = []
    for class_id, (number, place), path in sorted(sources, key=lambda s: (s[0], s[1])):
        name = f"{number}_sat_{place}"
        photo = photos.get((number, place), path.with_name(f"{name}.jpg"))
        masks.append(Mask("test", f"{class_id}/{name}", class_id, f"{name}.jpg", photo, path))
    unmasked = photos.keys() - {tile for _, tile, _ in sources}
    notes = [f"{len(unmasked)} tiles have no mask and are left out"] if masks and unmasked else []
    return class_masks.refuse_repeated(masks, skip_bad), notes


def _from_raw(images: list[Image], options: argparse.Namespace) -> Facts:
    sources = existing(path for image in images for path in (image.photo, image.source))
    return class_masks.make_all(options.out, images, cut, sources, list(COLOURS), (), options.skip_bad)


def cut(image: Image, out: Path, since: int) -> Made:
    """Write the kept tiles of an image and their masks.

    Raises:
        UserError: photo or mask is missing or damaged, their sizes differ, or the mask has another colour.
    """
    photo, classes = read_image(image.photo), classes_of(image.source)
    if photo.shape[:2] != classes.shape:
        raise UserError(
            f"{image.source}: is {classes.shape} (height, width), its photo {photo.shape[:2]}; restore both"
        )
    lines = []
    for place, (rows, columns) in windows(classes.shape).items():
        part = classes[rows, columns]
        if not is_kept(part):
            continue
        name = f"{image.number}_sat_{place}"
        target = out / IMAGES / f"{name}.jpg"
        if not target.exists() or target.stat().st_mtime_ns < since:
            encoded = cv2.imencode(".jpg", cv2.cvtColor(photo[rows, columns], cv2.COLOR_RGB2BGR))[1]
            write_atomically(target, encoded.tobytes())
        for class_id in np.unique(part[part > 0]).tolist():
            write_mask(out / MASKS / str(class_id) / f"{name}.png", (part == class_id).astype(np.uint8))
            lines.append(("test", f"{class_id}/{name}", class_id, f"{name}.jpg"))
    return Made(tuple(lines))


def windows(shape: tuple[int, ...]) -> dict[str, tuple[slice, slice]]:
    """Return rows and columns of each tile of an image (H, W), by row and column of the grid as text."""
    edges = [[n * side // GRID for n in range(GRID + 1)] for side in shape]
    rows, columns = ([slice(a, b) for a, b in pairwise(e)] for e in edges)
    return {f"{i}{j}": (rows[i], columns[j]) for i in range(GRID) for j in range(GRID)}


def is_kept(part: np.ndarray) -> bool:
    """Return whether a tile has two colours or more, of which the rarest is not too rare."""
    counts = np.unique(part, return_counts=True)[1]
    return len(counts) > 1 and counts.min() / part.size > RAREST


def classes_of(path: Path) -> np.ndarray:
    """Return the class ids of a mask of colours, (H, W) uint8, 0 where the class is unknown.

    Raises:
        UserError: the mask is missing or damaged, or has another colour.
    """
    rgb = np.asarray(open_mask(path, "RGB")).astype(np.uint32)
    code = rgb[..., 0] << 16 | rgb[..., 1] << 8 | rgb[..., 2]
    out = np.zeros(code.shape, np.uint8)
    known = code == 0
    for class_id, (red, green, blue) in enumerate(COLOURS.values(), 1):
        here = code == (red << 16 | green << 8 | blue)
        out[here], known = class_id, known | here
    if not known.all():
        row, column = np.argwhere(~known)[0]
        raise UserError(
            f"{path}: pixel ({row}, {column}) has the colour {tuple(rgb[row, column].tolist())}, which is no class of "
            "land cover; restore the mask"
        )
    return out
