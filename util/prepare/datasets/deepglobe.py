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
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from util.data.images.read import read_image, write_mask
from util.errors import UserError
from util.files import write_atomically
from util.prepare.datasets.one_class import Mask, open_mask, plan_of
from util.prepare.datasets.recipe import IMAGES, MASKS, Facts, Made, Plan, one_each

ROOT = "folder in one of the layouts above"
GRID = 6  # tiles along a side of an image
RAREST = 0.048  # share of a tile that its rarest colour must exceed
COLOURS = {  # in the order of the class ids
    "agriculture": (255, 255, 0),
    "urban": (0, 255, 255),
    "rangeland": (255, 0, 255),
    "forest": (0, 255, 0),
    "water": (0, 0, 255),
    "barren": (255, 255, 255),
}
PUBLISHED, FOUND_BY_OTHERS = 5666, 9175  # stated by the paper; what users of its script report
RAW_PHOTO, RAW_MASK = re.compile(r"(\d+)_sat\.jpg", re.I), re.compile(r"(\d+)_mask\.png", re.I)
TILE = re.compile(r"(\d+)_(?:sat_|mask_)?([0-5]{2})\.(jpg|png)", re.I)
NUMBERS = tuple(map(str, range(1, len(COLOURS) + 1)))  # folders of the classes


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of DeepGlobe, from whole images or from tiles.

    Raises:
        UserError: there are neither, or both, or two files have one name.
    """
    root, skip_bad = options.root, options.skip_bad
    files = sorted(path for path in root.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    raw, (tiles, notes) = find_raw(files, skip_bad), find_tiles(files, root, skip_bad)
    if raw and tiles:
        raise UserError(f"{root}: holds whole images and tiles, {raw[0][1]} and {tiles[0].photo}; name one")
    if not raw and not tiles:
        raise UserError(f"{root}: holds no <id>_sat.jpg with <id>_mask.png, and no tiles in folders 1 to 6")
    published = {"test": PUBLISHED, **dict.fromkeys(COLOURS)}
    if tiles:
        return plan_of(tiles, list(COLOURS), notes=notes, published=published, finish=_compare)
    sources = [path for image in raw for path in image[1:]]
    return Plan(lambda: raw, cut, sources, (*raw, *COLOURS), published=published, finish=_compare)


def _compare(facts: Facts) -> None:
    if facts.sizes["test"] != PUBLISHED:
        print(
            f"  the paper states {PUBLISHED}; its script gives others {FOUND_BY_OTHERS}: name the number with a result"
        )


def find_raw(files: list[Path], skip_bad: bool) -> list[tuple[str, Path, Path]]:
    """Return id, photo and mask of the raw images; one without a mask is left to fail when it is read.

    The official validation and test images have no masks, so images beside which none has a mask are no raw data.

    Raises:
        UserError: two files have one name, and ``skip_bad`` is False.
    """
    photos, sources = (
        one_each(((m[1], p) for p in files if (m := kind.fullmatch(p.name))), skip_bad)
        for kind in (RAW_PHOTO, RAW_MASK)
    )
    masked = {path.parent for path in sources.values()}
    numbers = [n for n in sorted(photos) if n in sources or photos[n].parent in masked]
    numbers += [n for n in sorted(sources) if n not in photos]
    out = []
    for n in numbers:
        photo = photos.get(n) or sources[n].with_name(f"{n}_sat.jpg")
        out.append((n, photo, sources.get(n) or photo.with_name(f"{n}_mask.png")))
    return out


def find_tiles(files: list[Path], root: Path, skip_bad: bool) -> tuple[list[Mask], list[str]]:
    """Return the masks of tiles that were cut before, by class and tile, and lines about what differs.

    Raises:
        UserError: two files are the same mask, and ``skip_bad`` is False.
    """
    photos: dict[str, Path] = {}
    sources: list[tuple[str, Path]] = []
    for path in files:
        match = TILE.fullmatch(path.name)
        if match is None:
            continue
        tile = f"{match[1]}_sat_{match[2]}"
        if match[3].lower() == "jpg":
            photos.setdefault(tile, path)  # each class folder has a copy
        elif folders := [part for part in path.relative_to(root).parts[:-1] if part in NUMBERS]:
            sources.append((f"{folders[-1]}/{tile}", path))
    masks = []
    for name, path in one_each(sorted(sources, key=lambda s: s[0]), skip_bad).items():
        number, tile = name.split("/")
        photo = photos.get(tile, path.with_name(f"{tile}.jpg"))
        classes = list(COLOURS)
        masks.append(Mask(("test",), name, int(number), f"{tile}.jpg", photo, path, classes[int(number) - 1]))
    unmasked = photos.keys() - {name.split("/")[1] for name, _ in sources}
    notes = [f"{len(unmasked)} tiles have no mask and are left out"] if masks and unmasked else []
    return masks, notes


def cut(image: tuple[str, Path, Path], out: Path, since: int) -> Made:
    """Write the kept tiles of an image and their masks.

    Raises:
        UserError: photo or mask is missing or damaged, their sizes differ, or the mask has another colour.
    """
    number, path, source = image
    photo, classes = read_image(path), classes_of(source)
    if photo.shape[:2] != classes.shape:
        raise UserError(f"{source}: is {classes.shape} (height, width), its photo {photo.shape[:2]}; restore both")
    lines, counted = [], []
    for place, (rows, columns) in windows(classes.shape).items():
        part = classes[rows, columns]
        if not is_kept(part):
            continue
        name = f"{number}_sat_{place}"
        target = out / IMAGES / f"{name}.jpg"
        if not target.exists() or target.stat().st_mtime_ns < since:
            encoded = cv2.imencode(".jpg", cv2.cvtColor(photo[rows, columns], cv2.COLOR_RGB2BGR))[1]
            write_atomically(target, encoded.tobytes())
        for class_id in np.unique(part[part > 0]).tolist():
            write_mask(out / MASKS / str(class_id) / f"{name}.png", (part == class_id).astype(np.uint8))
            lines.append(("test", f"{class_id}/{name} {class_id} {name}.jpg"))
            counted.append(list(COLOURS)[class_id - 1])
    return Made(tuple(lines), tuple(counted))


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
