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
from util.prepare.common import add_root_options
from util.prepare.datasets import class_masks
from util.prepare.datasets.class_masks import Mask
from util.prepare.datasets.grey_masks import prepare_masks

NAME, OUT = "fss1000", "data/fss1000"
PHOTOS = 10  # of a class
NUMBERS = sorted(map(str, range(1, PHOTOS + 1)))  # 1, 10, 2, ...: the order of the published episodes
SPLITS = {"train": "trn", "validation": "val", "test": "test"}  # part -> file in lists/fss1000
PUBLISHED = {"train": 5200, "validation": 2400, "test": 2400}
DEPTH = 4  # folders below --root that are searched for the classes
MAX_SHOWN = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "the unpacked download", OUT)


def run(options: argparse.Namespace) -> int:
    """Prepare FSS-1000 and print the number of masks of each part.

    Raises:
        UserError: a class or a file is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    classes = class_masks.settings_of(NAME).classes
    folder = find_classes(options.root, set(classes))
    masks, notes = find_masks(folder, classes, options.skip_bad)
    facts = prepare_masks(options, masks, classes, notes)
    class_masks.print_facts(facts, PUBLISHED)
    return 0


def split_names(part: str) -> list[str]:
    """Return the names of the classes of a part, sorted."""
    return sorted((REPOSITORY / "lists" / NAME / f"{SPLITS[part]}.txt").read_text(encoding="utf-8").split())


def find_classes(root: Path, classes: set[str]) -> Path:
    """Return the folder whose sub-folders are classes.

    Raises:
        UserError: there is none.
    """
    level = [root]
    for _ in range(DEPTH):
        for folder in level:
            if any((folder / name / "1.jpg").exists() and (folder / name / "1.png").exists() for name in classes):
                return folder
        level = sorted(child for folder in level for child in folder.iterdir() if child.is_dir())
    raise UserError(f"{root}: no folder here holds classes of FSS-1000, such as abacus/1.jpg and abacus/1.png")


def find_masks(folder: Path, classes: list[str], skip_bad: bool) -> tuple[list[Mask], list[str]]:
    """Return the masks of all classes, sorted by their paths as text, and lines about what differs.

    Raises:
        UserError: a class is missing, or a folder is no class.
    """
    there = {path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    problems = [
        f"{folder / name}: no class of FSS-1000{nearest(name, classes)}" for name in sorted(there - set(classes))
    ]
    problems += [f"{folder / name}: this class is missing" for name in classes if name not in there]
    if problems and not skip_bad:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UserError(f"{problems[0]}{more}; restore the download, or --skip-bad goes without")
    notes = [f"omitted: {problem}" for problem in problems[:MAX_SHOWN]]
    if len(problems) > MAX_SHOWN:
        notes.append(f"omitted: {len(problems) - MAX_SHOWN} folders more")
    ids, masks = {name: number for number, name in enumerate(classes, 1)}, []
    for part in SPLITS:
        for name in (n for n in split_names(part) if n in there):
            for number in NUMBERS:
                stem, source = f"{name}/{number}", folder / name
                masks.append(
                    Mask(part, stem, ids[name], f"{stem}.jpg", source / f"{number}.jpg", source / f"{number}.png")
                )
            extra = sorted(p.name for p in (folder / name).glob("*.jpg") if p.stem not in NUMBERS)
            if extra:
                notes.append(
                    f"{folder / name}: photos beside 1 to {PHOTOS} are left out: {', '.join(extra[:MAX_SHOWN])}"
                )
    return masks, notes
