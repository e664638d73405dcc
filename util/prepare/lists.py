"""Print the sizes of the lists of each fold with the published sizes; export lists and compare list files with them.

Lists are computed from the index of class areas and need no files. --export writes them in the two-column form of
published lists (paths of image and mask) with one file of support candidates per class. --import compares another
project's list file (two columns, (image, class) pairs, or a pickled dictionary) with the list of one fold and prints
the differences. A run uses such a file with data.train_fold_list or data.test_fold_list.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from util.config.folds import LISTS, Fold
from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.lists.image_list import ImageList, test_list, train_list
from util.data.lists.index import Index, load_index
from util.errors import UserError
from util.files import write_atomically
from util.prepare.datasets.recipe import compare_count

DEFAULT_CONFIG = "config/pascal/pascal_split0_resnet50.yaml"
MAKERS = {"train": train_list, "test": test_list}
# (data set, train list, part) -> published sizes of folds 0..3, for lists with 2048 pixels and exclude_novel.
PUBLISHED = {
    ("pascal", "train", "train"): (4208, 3726, 2752, 4510),
    ("pascal", "train", "test"): (364, 445, 592, 336),
    ("pascal", "trainaug", "test"): (364, 445, 592, 336),
    ("coco", "train2014", "test"): (26037, None, None, None),
}
PUBLISHED_PIXELS = 2048


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("config", nargs="?", default=DEFAULT_CONFIG, help=f"config (default {DEFAULT_CONFIG})")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--fold", type=int, help="only this fold")
    parser.add_argument("--candidates", action="store_true", help="also print the support candidates of each class")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the lists there, in two columns")
    parser.add_argument("--import", dest="imported", type=Path, metavar="FILE", help="compare another list file")
    parser.add_argument("--part", choices=MAKERS, default="test", help="part of the --import file (default test)")


def run(options: argparse.Namespace) -> int:
    """Print the sizes of all lists and export them, or compare a list file.

    Raises:
        UserError: data is missing or damaged, or a list file does not fit it.
    """
    data = read_config(options.config, options.overrides).data
    if options.fold is not None and not 0 <= options.fold < data.folds:
        raise UserError(f"--fold {options.fold} does not exist; allowed: 0..{data.folds - 1}")
    folds = range(data.folds) if options.fold is None else [options.fold]
    if options.imported is not None:
        fold = data.fold if options.fold is None else options.fold
        return check_import(options.imported, replace(data, fold=fold), options.part)
    for part, make in MAKERS.items():
        if getattr(data, f"{part}_list") is None:
            continue
        index = load_index(data, part)
        print(f"{part}: {len(index)} images of {data.root}/{getattr(data, part + '_list')}")
        for number in folds:
            chosen = replace(data, fold=number)
            images = make(index, Fold.of(chosen), chosen)
            print(f"  {compare_count(f'fold {number}', len(images.queries), published(chosen, part))}")
            if options.candidates:
                counts = (f"{data.classes[c - 1]} {len(rows)}" for c, rows in images.candidates.items())
                print("    candidates: " + ", ".join(counts))
            if options.export is not None:
                export(images, chosen, part, options.export)
    if options.export is not None:
        print(f"written to {options.export}")
    return 0


def published(data: DataSettings, part: str) -> int | None:
    """Return the published size of a fold's list for these settings, None if unknown."""
    sizes = PUBLISHED.get((data.name, Path(data.train_list or "").stem, part))
    known = data.min_pixels == PUBLISHED_PIXELS and (data.exclude_novel or part == "test")
    listed = data.train_fold_list if part == "train" else data.test_fold_list
    return sizes[data.fold] if sizes and known and data.fold_rule != LISTS and listed is None else None


def export(images: ImageList, data: DataSettings, part: str, folder: Path) -> None:
    """Write ``fold<i>_<part>.txt`` (image and mask per line) and a file of candidates for each class.

    Raises:
        WriteError: the folder cannot be written.
    """

    def lines(rows: list[int]) -> str:
        columns = ((images.index.images[r], images.index.masks[r]) for r in rows)
        return "".join(f"{image.relative_to(root)} {mask.relative_to(root)}\n" for image, mask in columns)

    root, stem = Path(data.root), f"fold{data.fold}_{part}"
    write_atomically(folder / f"{stem}.txt", lines(images.queries.tolist()))
    for c, rows in images.candidates.items():
        write_atomically(folder / f"{stem}_candidates" / f"class{c}.txt", lines(rows.tolist()))


def check_import(path: Path, data: DataSettings, part: str) -> int:
    """Print the differences of a list file from our own list; return the exit code.

    Raises:
        UserError: the file cannot be read, or lists an image or class that this fold does not have.
    """
    own = replace(data, train_fold_list=None, test_fold_list=None)
    fold, index = Fold.of(own), load_index(own, part)
    ours = MAKERS[part](index, fold, own)
    key = f"data.{part}_fold_list"
    theirs = MAKERS[part](index, fold, replace(own, **{f"{part}_fold_list": str(path)}))  # type: ignore[arg-type]
    print(f"{path}: {len(theirs.queries)} images; all are in {data.root}")
    _compare("images", set(theirs.queries.tolist()), set(ours.queries.tolist()), index)
    if theirs.listed_pairs:
        _compare("(image, class) pairs", set(theirs.listed_pairs), set(ours.pairs), index)
    print(f"  to run on it: --set {key}={path}")
    return 0


def _compare(what: str, theirs: set, ours: set, index: Index) -> None:
    """Print the differences of two sets of rows or of (row, class) pairs."""
    if theirs == ours:
        print(f"  {what}: the same {len(ours)} as the list made from the masks")
        return
    text = f"  {what}: {len(theirs)}, the list made from the masks has {len(ours)}"
    for title, difference in (("only in the file", theirs - ours), ("not in the file", ours - theirs)):
        if difference:
            first = min(difference)
            name = index.names[first] if isinstance(first, int) else f"{index.names[first[0]]} with class {first[1]}"
            text += f"; {len(difference)} {title} ({name}{', ...' if len(difference) > 1 else ''})"
    print(text)
