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
from util.prepare.common import compare_count
from util.prepare.datasets.one_class import Mask, plan_of
from util.prepare.datasets.recipe import Plan, classes_of, one_each

PHOTO_FOLDER, MASK_FOLDER = "CXR_png", "masks"
ROOT = f"folder of {PHOTO_FOLDER} and {MASK_FOLDER}"
MASK = re.compile(r"((CHNCXR|MCUCXR)_\d{4}_\d)(_mask)?\.png", re.I)
PARTS = {"CHNCXR": ("test", "shenzhen"), "MCUCXR": ("test",)}  # beginning of a name -> lists
PUBLISHED = {"test": 704, "shenzhen": 566}
UNMASKED = 96  # photos, as documented


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of the chest X-rays: all masks by name.

    Raises:
        UserError: the folders are missing, there are several, or there is no mask of either hospital.
    """
    photos, folder = _folders(options.root)
    there = {path.stem.upper(): path for path in photos.iterdir() if path.suffix.lower() == ".png"}
    files = sorted(p for p in folder.iterdir() if p.suffix.lower() == ".png")
    matches = {path: MASK.fullmatch(path.name) for path in files}
    found = one_each(((m[1].upper(), path) for path, m in matches.items() if m), options.skip_bad)
    if not found:
        raise UserError(f"{folder}: holds no CHNCXR_*_mask.png or MCUCXR_*.png; unpack the masks there")
    masks = [
        Mask(PARTS[name.split("_")[0]], name, 1, f"{name}.png", there.get(name, photos / f"{name}.png"), path)
        for name, path in found.items()
    ]
    other = [path.name for path, match in matches.items() if match is None]
    notes = [f"{len(other)} files of {folder} are no masks, such as {other[0]}, left out"] if other else []
    notes.append(compare_count("photos without a mask, left out", len(there.keys() - found.keys()), UNMASKED))
    return plan_of(masks, classes_of("chestxray"), notes=notes, published=PUBLISHED)


def _folders(root: Path) -> tuple[Path, Path]:
    """Return the folders of photos and masks, which lie side by side."""
    found = sorted(path for path in [root, *root.rglob("*")] if path.name == PHOTO_FOLDER and path.is_dir())
    pairs = [(path, path.parent / MASK_FOLDER) for path in found if (path.parent / MASK_FOLDER).is_dir()]
    if len(pairs) != 1:
        what = "no" if not pairs else "several"
        raise UserError(f"{root}: holds {what} folders {PHOTO_FOLDER} and {MASK_FOLDER} side by side; name one of them")
    return pairs[0]
