"""Prepare FSS-1000: 1000 classes of ten photos, each with a mask.

--root holds a folder for each class, at any depth (FSS-1000/<class>, FSS-1000/data/<class>, fewshot_data/<class>), with
1.jpg to 10.jpg and 1.png to 10.png. Class names are taken as they are, misspelt ones too. Creates images (links), masks
and lists/{train,validation,test}.txt: 520 classes to train on, 240 to validate on and the 240 official test classes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from util.errors import UserError, nearest
from util.files import REPOSITORY
from util.prepare.datasets.one_class import Mask, plan_of
from util.prepare.datasets.recipe import Plan, classes_of

ROOT = "the unpacked download"
NUMBERS = sorted(map(str, range(1, 11)))  # of a class's photos: 1, 10, 2, ...: the order of the published episodes
SPLITS = {"train": "trn", "validation": "val", "test": "test"}  # part -> file in lists/fss1000
PUBLISHED = {"train": 5200, "validation": 2400, "test": 2400}
DEPTH = 4  # folders below --root that are searched for the classes
MAX_SHOWN = 5


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of FSS-1000: masks sorted by their paths as text.

    Raises:
        UserError: a class is missing, or a folder is no class.
    """
    classes = classes_of("fss1000")
    folder = _class_folder(options.root, set(classes))
    there = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    problems = [
        f"{folder / name}: no class of FSS-1000{nearest(name, classes)}" for name in sorted(there - set(classes))
    ]
    problems += [f"{folder / name}: this class is missing" for name in classes if name not in there]
    if problems and not options.skip_bad:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}; restore the download, or --skip-bad goes without")
    notes = [f"omitted: {problem}" for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        notes.append(f"omitted: {len(problems) - MAX_SHOWN} folders more")
    masks = []
    for part, listed in SPLITS.items():
        names = sorted((REPOSITORY / "lists/fss1000" / f"{listed}.txt").read_text(encoding="utf-8").split())
        for name in (name for name in names if name in there):
            source, class_id = folder / name, classes.index(name) + 1
            for n in NUMBERS:
                photo, mask = source / f"{n}.jpg", source / f"{n}.png"
                masks.append(Mask((part,), f"{name}/{n}", class_id, f"{name}/{n}.jpg", photo, mask))
            if extra := sorted(p.name for p in source.glob("*.jpg") if p.stem not in NUMBERS):
                notes.append(f"{source}: photos beside 1 to 10 are left out: {', '.join(extra[:MAX_SHOWN])}")
    return plan_of(masks, classes, notes=notes, parts=tuple(SPLITS), published=PUBLISHED)


def _class_folder(root: Path, classes: set[str]) -> Path:
    """Return the folder whose sub-folders are classes."""
    level = [root]
    for _ in range(DEPTH):
        for folder in level:
            if any((folder / name / "1.jpg").exists() and (folder / name / "1.png").exists() for name in classes):
                return folder
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    raise UserError(f"{root}: no folder here holds classes of FSS-1000, such as abacus/1.jpg and abacus/1.png")
