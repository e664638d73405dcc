"""Prepare the chest X-rays with masks of the lungs (Shenzhen and Montgomery): 704 masks.

--root holds CXR_png/ (800 photos) and masks/ (704) at any depth: Shenzhen's CHNCXR_*.png have a mask CHNCXR_*_mask.png
(566), Montgomery's MCUCXR_*.png a mask of the same name (138). Photos without a mask are left out. Creates images
(links), masks, lists/test.txt (all) and lists/shenzhen.txt (Shenzhen alone, which some published code tests on:
--set data.test_list=lists/shenzhen.txt). The data set is for tests.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from util.errors import UserError
from util.files import write_atomically
from util.prepare.common import add_root_options, compare_count
from util.prepare.datasets import class_masks
from util.prepare.datasets.class_masks import LISTS, Mask
from util.prepare.datasets.grey_masks import prepare_masks

NAME, OUT = "chestxray", "data/chestxray"
PHOTO_FOLDER, MASK_FOLDER = "CXR_png", "masks"
MASK = re.compile(r"((CHNCXR|MCUCXR)_\d{4}_\d)(_mask)?\.png", re.I)
SHENZHEN = "shenzhen"
PREFIXES = {"CHNCXR": SHENZHEN, "MCUCXR": "montgomery"}
PUBLISHED = {SHENZHEN: 566, "montgomery": 138}
PHOTOS = 800


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, f"folder of {PHOTO_FOLDER} and {MASK_FOLDER}", OUT)


def run(options: argparse.Namespace) -> int:
    """Prepare the chest X-rays and print the number of masks of each hospital.

    Raises:
        UserError: a photo or a mask is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    photos, folder = find_folders(options.root)
    masks, notes = find_masks(photos, folder, options.skip_bad)
    classes = class_masks.settings_of(NAME).classes
    facts = prepare_masks(options, masks, classes, notes)
    lines = (options.out / LISTS / "test.txt").read_text().splitlines(keepends=True)
    of_set = {name: [x for x in lines if x.startswith(prefix)] for prefix, name in PREFIXES.items()}
    shenzhen, text = options.out / LISTS / f"{SHENZHEN}.txt", "".join(of_set[SHENZHEN])
    if text and not (shenzhen.exists() and shenzhen.read_text() == text):
        write_atomically(shenzhen, text)
    class_masks.print_facts(facts, {"test": sum(PUBLISHED.values())})
    for name, count in PUBLISHED.items():
        print("  " + compare_count(name, len(of_set[name]), count))
    return 0


def find_folders(root: Path) -> tuple[Path, Path]:
    """Return the folders of photos and masks, which lie side by side.

    Raises:
        UserError: there are none, or several.
    """
    found = sorted(path for path in [root, *root.rglob("*")] if path.name == PHOTO_FOLDER and path.is_dir())
    pairs = [(path, path.parent / MASK_FOLDER) for path in found if (path.parent / MASK_FOLDER).is_dir()]
    if len(pairs) != 1:
        what = "no" if not pairs else "several"
        raise UserError(f"{root}: holds {what} folders {PHOTO_FOLDER} and {MASK_FOLDER} side by side; name one of them")
    return pairs[0]


def find_masks(photos: Path, folder: Path, skip_bad: bool) -> tuple[list[Mask], list[str]]:
    """Return all masks by name, and lines about what differs.

    Raises:
        UserError: a file is no mask of either hospital.
    """
    there = {path.stem.upper(): path for path in photos.iterdir() if path.suffix.lower() == ".png"}
    masks, other = [], []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png"):
        match = MASK.fullmatch(path.name)
        if match is None:
            other.append(path.name)
            continue
        name = match[1].upper()
        masks.append(Mask("test", name, 1, f"{name}.png", there.get(name, photos / f"{name}.png"), path))
    if not masks:
        raise UserError(f"{folder}: holds no CHNCXR_*_mask.png or MCUCXR_*.png; unpack the masks there")
    notes = [f"{len(other)} files of {folder} are no masks, such as {other[0]}, left out"] if other else []
    unmasked = there.keys() - {mask.name for mask in masks}
    expected = PHOTOS - sum(PUBLISHED.values())
    notes.append(compare_count("photos without a mask, left out", len(unmasked), expected))
    return class_masks.refuse_repeated(masks, skip_bad), notes
