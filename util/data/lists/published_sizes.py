"""The sizes of the published lists, whole and by fold."""

from pathlib import Path

from util.config.settings import DataSettings
from util.data.lists.image_list import test_list, train_list

WHOLE = {  # data set -> list -> images when complete
    "pascal": {"train": 5953, "trainaug": 10582, "val": 1449},
    "coco": {"train2014": 82081, "val2014": 40137},
}
MAKERS = {"train": train_list, "test": test_list}
# (data set, fold rule, train list, part) -> published sizes of folds 0..3, for lists by 2048 pixels and exclude_novel.
PUBLISHED = {
    ("pascal", "contiguous", "train", "train"): (4208, 3726, 2752, 4510),
    ("pascal", "contiguous", "train", "test"): (364, 445, 592, 336),
    ("pascal", "contiguous", "trainaug", "test"): (364, 445, 592, 336),
    ("coco", "interleaved", "train2014", "train"): (21916, 15280, 13092, 12617),
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


def whole(name: str, list_file: str) -> int:
    """Return the images of a complete list of a data set; 0 if unknown."""
    return WHOLE.get(name, {}).get(Path(list_file).stem, 0)
