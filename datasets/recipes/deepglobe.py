"""Prepare DeepGlobe (land cover): tiles of 408 pixels, as the cross-domain benchmark has them, and a mask per class.

--root holds, at any depth, <1..6>/test/origin/<tile>.jpg and <1..6>/test/groundtruth/<tile>.png, or image/<tile>.jpg
and filter_mask/<1..6>/<tile>.png, where a tile is <id>_ij, <id>_sat_ij or <id>_mask_ij: row i and column j of the 6 x 6
tiles of an image. Creates images (links), masks and lists/test.txt: the data set is for tests.
"""

import argparse
import re
from pathlib import Path

from datasets.recipes.recipe import MaskJob, Plan, Recipe, by_name, classes_of, grey
from util.files.folders import paths_below


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of DeepGlobe; raises as ``by_name`` does."""
    classes = classes_of("deepglobe")
    note = "the paper states 5666 masks, users of its script report 9175: name the number with a result"
    jobs = find_tiles(paths_below(options.root), options.root)
    return Plan(jobs, grey, classes, {"test": 5666, **dict.fromkeys(classes)}, [note])


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


RECIPE = Recipe("deepglobe", __doc__, {"root": "folder of the tiles"}, find)
