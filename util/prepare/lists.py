"""Print the sizes of the lists of each fold with the published sizes; export lists and compare list files with them.

Lists are computed from the index of class areas and need no files. --export writes them in the two-column form of
published lists (paths of image and mask) with one file of support candidates per class. --import compares another
project's list file (two columns, (image, class) pairs, or a pickled dictionary) with the list of one fold and prints
the differences. A run uses such a file with data.train_fold_list or data.test_fold_list.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.lists.image_list import ImageList, test_list, train_list
from util.data.lists.index import load_index
from util.files import write_atomically
from util.prepare.datasets.recipe import compare_count

DEFAULT_CONFIG = "config/pascal/pascal_split0_resnet50.yaml"
MAKERS = {"train": train_list, "test": test_list}
# (data set, fold rule, train list, part) -> published sizes of folds 0..3, for lists by 2048 pixels and exclude_novel.
PUBLISHED = {
    ("pascal", "contiguous", "train", "train"): (4208, 3726, 2752, 4510),
    ("pascal", "contiguous", "train", "test"): (364, 445, 592, 336),
    ("pascal", "contiguous", "trainaug", "test"): (364, 445, 592, 336),
    ("coco", "interleaved", "train2014", "test"): (26037, None, None, None),
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("config", nargs="?", default=DEFAULT_CONFIG, help=f"config (default {DEFAULT_CONFIG})")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--fold", type=int, help="only this fold")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the lists there, in two columns")
    parser.add_argument("--import", dest="imported", type=Path, metavar="FILE", help="compare another list file")
    parser.add_argument("--part", choices=MAKERS, default="test", help="part of the --import file (default test)")


def run(options: argparse.Namespace) -> int:
    """Print the sizes of all lists and export them, or compare a list file.

    Raises:
        UserError: data is missing or damaged, or a list file does not fit it.
    """
    chosen = [] if options.fold is None else [f"data.fold={options.fold}"]
    data = read_config(options.config, [*options.overrides, *chosen]).data
    if options.imported is not None:
        print_differences(options.imported, data, options.part)
        return 0
    for part, make in MAKERS.items():
        if getattr(data, f"{part}_list") is None:
            continue
        index = load_index(data, part)
        print(f"{part}: {len(index)} images of {data.root}/{getattr(data, part + '_list')}")
        for number in range(data.folds) if options.fold is None else [options.fold]:
            of_fold = replace(data, fold=number)
            images = make(index, Fold.of(of_fold), of_fold)
            print(f"  {compare_count(f'fold {number}', len(images.queries), published(of_fold, part))}")
            if options.export is not None:
                export(images, Path(data.root), options.export / f"fold{number}_{part}")
    if options.export is not None:
        print(f"written to {options.export}")
    return 0


def published(data: DataSettings, part: str) -> int | None:
    """Return the published size of a fold's list for these settings, None if unknown."""
    sizes = PUBLISHED.get((data.name, data.fold_rule, Path(data.train_list or "").stem, part), ())
    known = data.min_pixels == 2048 and (data.exclude_novel or part == "test")
    listed = data.train_fold_list if part == "train" else data.test_fold_list
    return sizes[data.fold] if len(sizes) == data.folds and known and listed is None else None


def export(images: ImageList, root: Path, stem: Path) -> None:
    """Write ``<stem>.txt`` (image and mask per line, relative to ``root``) and a file of candidates for each class."""
    files = {stem.with_suffix(".txt"): images.queries}
    files |= {Path(f"{stem}_candidates/class{c}.txt"): rows for c, rows in images.candidates.items()}
    for path, rows in files.items():
        columns = ((images.index.images[r], images.index.masks[r]) for r in rows.tolist())
        lines = (f"{image.relative_to(root)} {mask.relative_to(root)}\n" for image, mask in columns)
        write_atomically(path, "".join(lines))


def print_differences(path: Path, data: DataSettings, part: str) -> None:
    """Print the differences of a list file from our own list.

    Raises:
        UserError: the file cannot be read, or lists an image or class that this fold does not have.
    """
    key = f"{part}_fold_list"
    own = replace(data, train_fold_list=None, test_fold_list=None)
    fold, index = Fold.of(own), load_index(own, part)
    ours = MAKERS[part](index, fold, own)
    listed = MAKERS[part](index, fold, replace(own, **{key: str(path)}))  # type: ignore[arg-type]
    print(f"{path}: {len(listed.queries)} images; all are in {data.root}")
    what, theirs, made = "images", set[Any](listed.queries.tolist()), set[Any](ours.queries.tolist())
    if listed.listed_pairs:
        what, theirs, made = "(image, class) pairs", set(listed.listed_pairs), set(ours.pairs)
    if theirs == made:
        print(f"  {what}: the same {len(made)} as the list made from the masks")
    else:
        print(f"  {what}: {len(theirs)}, the list made from the masks has {len(made)}")
    for title, difference in (("only in the file", theirs - made), ("not in the file", made - theirs)):
        if difference:
            first = min(difference)
            shown = f"{index.names[first[0]]}, class {first[1]}" if listed.listed_pairs else index.names[first]
            print(f"    {len(difference)} {title}, such as {shown}")
    print(f"  to run on it: --set data.{key}={path}")
