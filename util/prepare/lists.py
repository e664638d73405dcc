"""Print the sizes of the lists of each fold with the published sizes.

Lists are computed from the index of class areas and need no files. Another project's list file (two columns, (image,
class) pairs, or a pickled dictionary) is used with data.train_fold_list or data.test_fold_list.
"""

import argparse
from dataclasses import replace
from pathlib import Path

from util.config.folds import Fold
from util.config.read import read_config
from util.config.settings import DataSettings
from util.data.lists.image_list import test_list, train_list
from util.data.lists.index import load_index
from util.prepare.datasets.recipe import compare_count

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
    default = "config/pascal/pascal_split0_resnet50.yaml"
    parser.add_argument("config", nargs="?", default=default, help=f"config (default {default})")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    parser.add_argument("--fold", type=int, help="only this fold")


def run(options: argparse.Namespace) -> int:
    """Print the sizes of all lists; UserError: data is missing or damaged, or a list file does not fit it."""
    overrides = list(options.overrides)
    if options.fold is not None:
        overrides.append(f"data.fold={options.fold}")
    data = read_config(options.config, overrides).data
    folds = range(data.folds) if options.fold is None else [options.fold]
    for part, make in MAKERS.items():
        list_file = getattr(data, f"{part}_list")
        if list_file is None:
            continue
        index = load_index(data, part)
        print(f"{part}: {len(index)} images of {data.root}/{list_file}")
        for fold in folds:
            fold_data = replace(data, fold=fold)
            images = make(index, Fold.of(fold_data), fold_data)
            print(f"  {compare_count(f'fold {fold}', len(images.queries), published(fold_data, part))}")
    return 0


def published(data: DataSettings, part: str) -> int | None:
    """Return the published size of a fold's list for these settings, None if unknown."""
    fold_list = data.train_fold_list if part == "train" else data.test_fold_list
    if fold_list is not None or data.min_pixels != 2048:
        return None
    if part == "train" and not data.exclude_novel:
        return None
    sizes = PUBLISHED.get((data.name, data.fold_rule, Path(data.train_list or "").stem, part), ())
    return sizes[data.fold] if len(sizes) == data.folds else None
