"""The sizes of the lists of each fold, and the published ones."""

from pathlib import Path

from util.config.settings import DataSettings
from util.data.lists.image_list import test_list, train_list

MAKERS = {"train": train_list, "test": test_list}
# (data set, fold rule, train list, part) -> published sizes of folds 0..3, for lists by 2048 pixels and exclude_novel.
PUBLISHED = {
    ("pascal", "contiguous", "train", "train"): (4208, 3726, 2752, 4510),
    ("pascal", "contiguous", "train", "test"): (364, 445, 592, 336),
    ("pascal", "contiguous", "trainaug", "test"): (364, 445, 592, 336),
    ("coco", "interleaved", "train2014", "test"): (26037, None, None, None),
}


def published(data: DataSettings, part: str) -> int | None:
    """Return the published size of a fold's list for these settings, None if unknown."""
    if data.min_pixels != 2048:
        return None
    if part == "train" and not data.exclude_novel:
        return None
    sizes = PUBLISHED.get((data.name, data.fold_rule, Path(data.train_list or "").stem, part), ())
    return sizes[data.fold] if len(sizes) == data.folds else None
