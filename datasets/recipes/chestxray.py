"""Prepare the chest X-rays with masks of the lungs (Shenzhen and Montgomery): 704 masks.

--root holds CXR_png/ (800 photos) and masks/ (704) at any depth: Shenzhen's CHNCXR_*.png have a mask CHNCXR_*_mask.png
(566), Montgomery's MCUCXR_*.png a mask of the same name (138). Photos without a mask are left out. Creates images
(links), masks, lists/test.txt (all) and lists/shenzhen.txt (Shenzhen alone, which some published code tests on:
--set data.test_list=lists/shenzhen.txt). The data set is for tests.
"""

import argparse

from datasets.recipes.recipe import MaskJob, Plan, Recipe, compare_count, grey, matching
from util.files.folders import paths_below

PARTS = {"CHNCXR": ("test", "shenzhen"), "MCUCXR": ("test",)}  # beginning of a name -> lists
PUBLISHED = {"test": 704, "shenzhen": 566}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of the chest X-rays: all masks by name."""
    photo_folders = paths_below(options.root, "CXR_png")
    folder = next((path for path in photo_folders if (path.parent / "masks").is_dir()), options.root / "CXR_png")
    masks = matching(sorted((folder.parent / "masks").glob("*")), r"((?:CHNCXR|MCUCXR)_\d{4}_\d)(?:_mask)?\.png")
    photos = {path.stem.upper(): path for path in folder.glob("*.[pP][nN][gG]")}
    jobs = []
    for name, mask in masks.items():
        photo = photos.get(name, folder / f"{name}.png")
        hospital, _, _ = name.partition("_")
        jobs.append(MaskJob(photo, mask, name, 1, photo_name=f"{name}.png", parts=PARTS[hospital]))
    unmasked = compare_count("photos without a mask, left out", len(photos.keys() - masks.keys()), 96)
    return Plan(jobs, grey, published=PUBLISHED, notes=[unmasked])


RECIPE = Recipe("chestxray", __doc__, {"root": "folder of CXR_png and masks"}, find)
