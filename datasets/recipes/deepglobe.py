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

from datasets.recipes.recipe import MaskJob, Piece, Plan, Recipe, by_name, grey, ids_of_colours, line_of, matching
from util.files import paths_below
from util.files.errors import UserError

GRID = 6  # tiles along a side of an image
RAREST = 0.048  # of the pixels of a tile that is kept, the least share of the rarest colour
COLOURS = {"agriculture": (255, 255, 0), "urban": (0, 255, 255), "rangeland": (255, 0, 255), "forest": (0, 255, 0)}
COLOURS |= {"water": (0, 0, 255), "barren": (255, 255, 255)}  # in the order of the class ids
PUBLISHED = {"test": 5666, **dict.fromkeys(COLOURS)}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of DeepGlobe, from whole images or from tiles; errors as ``by_name``."""
    files = paths_below(options.root)
    images = _find_images(files)
    note = "the paper states 5666 masks, users of its script report 9175: name the number with a result"
    if images:
        return Plan(images, cut, list(COLOURS), PUBLISHED, [note])
    return Plan(find_tiles(files, options.root), grey, list(COLOURS), PUBLISHED, [note])


def _find_images(files: list[Path]) -> list[MaskJob]:
    """Return the whole images that have a mask or should have one; validation and test images have none."""
    photos = matching(files, r"(\d+)_sat\.jpg")
    masks = matching(files, r"(\d+)_mask\.png")
    mask_folders = {path.parent for path in masks.values()}
    beside_masks = [number for number, path in photos.items() if path.parent in mask_folders]
    jobs = []
    for number in sorted({*masks, *beside_masks}):
        photo = photos.get(number) or masks[number].with_name(f"{number}_sat.jpg")
        mask = masks.get(number) or photo.with_name(f"{number}_mask.png")
        jobs.append(MaskJob(photo, mask))
    return jobs


def find_tiles(files: list[Path], root: Path) -> list[MaskJob]:
    """Return the masks of tiles that were cut before, by class and tile."""
    photos: dict[str, Path] = {}  # each class folder may have a copy
    masks: list[tuple[str, Path]] = []
    for path in files:
        match = re.fullmatch(r"(\d+)_(?:sat_|mask_)?([0-5]{2})\.(jpg|png)", path.name, re.IGNORECASE)
        if match is None:
            continue
        tile = f"{match[1]}_sat_{match[2]}"
        class_folders = [part for part in path.relative_to(root).parts[:-1] if part in set("123456")]
        if match[3].lower() == "jpg":
            photos.setdefault(tile, path)
        elif class_folders:
            masks.append((f"{class_folders[-1]}/{tile}", path))
    jobs = []
    for name, mask in by_name(sorted(masks)).items():
        class_id, tile = name.split("/")
        photo = photos.get(tile, mask.with_suffix(".jpg"))
        jobs.append(MaskJob(photo, mask, name, int(class_id), photo_name=f"{tile}.jpg"))
    return jobs


def cut(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield the masks of the kept tiles of an image; UserError: its mask is damaged, or of another size or colours."""
    ids = ids_of_colours(job.source, COLOURS.values())
    if image.shape[:2] != ids.shape:
        raise UserError(f"{job.source}: is {ids.shape} (height, width), its photo {image.shape[:2]}; restore both")
    number = job.source.name.split("_")[0]
    height, width = ids.shape
    for i, j in product(range(GRID), repeat=2):
        rows = slice(i * height // GRID, (i + 1) * height // GRID)
        columns = slice(j * width // GRID, (j + 1) * width // GRID)
        tile = ids[rows, columns]
        present, counts = np.unique(tile, return_counts=True)
        if len(present) == 1 or counts.min() / tile.size <= RAREST:
            continue
        photo_name = f"{number}_sat_{i}{j}.jpg"
        for class_id in present[present > 0].tolist():
            line = line_of(f"{class_id}/{number}_sat_{i}{j}", class_id, photo_name)
            yield Piece(line, (tile == class_id).astype(np.uint8), image[rows, columns])


RECIPE = Recipe("deepglobe", __doc__, {"root": "folder of the tiles or the whole images"}, find)
