"""Prepare DeepGlobe (land cover) as the cross-domain benchmark cuts it: tiles of 408 pixels, one mask per class.

--root holds one of the layouts that circulate:

  raw     <id>_sat.jpg and <id>_mask.png (2448 x 2448, colours), at any depth
  cut     <1..6>/test/origin/<tile>.jpg and <1..6>/test/groundtruth/<tile>.png, at any depth
  filter  image/<tile>.jpg and filter_mask/<1..6>/<tile>.png, at any depth

where a tile is <id>_ij, <id>_sat_ij or <id>_mask_ij: row i and column j of the 6 x 6 tiles of an image. Of the raw
form each tile is kept whose mask has at least two colours, of which the rarest covers more than 4.8 %; unknown (black)
counts as a colour but is no class. Creates images, masks and lists/test.txt: the data set is for tests.
"""

import argparse
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import numpy as np

from util.errors import UserError
from util.files import paths_below
from util.prepare.datasets.recipe import MaskJob, Piece, Plan, by_name, grey, ids_of_colours, line_of, matching

ROOT = "folder in one of the layouts above"
GRID = 6  # tiles along a side of an image
COLOURS = {"agriculture": (255, 255, 0), "urban": (0, 255, 255), "rangeland": (255, 0, 255), "forest": (0, 255, 0)}
COLOURS |= {"water": (0, 0, 255), "barren": (255, 255, 255)}  # in the order of the class ids
PUBLISHED = {"test": 5666, **dict.fromkeys(COLOURS)}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of DeepGlobe, from whole images or from tiles; errors as ``by_name``."""
    files = paths_below(options.root)
    photos, masks = matching(files, r"(\d+)_sat\.jpg"), matching(files, r"(\d+)_mask\.png")
    folders = {path.parent for path in masks.values()}  # validation and test images have no masks
    whole = [
        MaskJob(
            photos.get(n) or masks[n].with_name(f"{n}_sat.jpg"), masks.get(n) or photos[n].with_name(f"{n}_mask.png")
        )
        for n in sorted({*masks, *(n for n, path in photos.items() if path.parent in folders)})
    ]
    note = "the paper states 5666 masks, users of its script report 9175: name the number with a result"
    return Plan(whole or find_tiles(files, options.root), cut if whole else grey, list(COLOURS), PUBLISHED, [note])


def find_tiles(files: list[Path], root: Path) -> list[MaskJob]:
    """Return the masks of tiles that were cut before, by class and tile."""
    photos: dict[str, Path] = {}  # each class folder may have a copy
    sources: list[tuple[str, Path]] = []
    for path in files:
        if not (match := re.fullmatch(r"(\d+)_(?:sat_|mask_)?([0-5]{2})\.(jpg|png)", path.name, re.IGNORECASE)):
            continue
        tile = f"{match[1]}_sat_{match[2]}"
        folders = [part for part in path.relative_to(root).parts[:-1] if part in set("123456")]
        if match[3].lower() == "jpg":
            photos.setdefault(tile, path)
        elif folders:
            sources.append((f"{folders[-1]}/{tile}", path))
    return [
        MaskJob(photos.get(name[2:], path.with_suffix(".jpg")), path, name, int(name[0]), f"{name[2:]}.jpg")
        for name, path in by_name(sorted(sources)).items()
    ]


def cut(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield the masks of the kept tiles of an image; UserError: its mask is damaged, or of another size or colours."""
    ids = ids_of_colours(job.source, COLOURS.values())
    if image.shape[:2] != ids.shape:
        raise UserError(f"{job.source}: is {ids.shape} (height, width), its photo {image.shape[:2]}; restore both")
    for i, j in product(range(GRID), repeat=2):
        rows, columns = (slice(n * side // GRID, (n + 1) * side // GRID) for n, side in zip((i, j), ids.shape))
        tile, name = ids[rows, columns], f"{job.source.name.split('_')[0]}_sat_{i}{j}"
        present, counts = np.unique(tile, return_counts=True)
        if len(present) == 1 or counts.min() / tile.size <= 0.048:
            continue
        for class_id in present[present > 0].tolist():
            line = line_of(f"{class_id}/{name}", class_id, f"{name}.jpg")
            yield Piece(line, (tile == class_id).astype(np.uint8), image[rows, columns])
