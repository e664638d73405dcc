"""Prepare PACO-Part: 448 parts of objects in four folds, each cut out with its object's box.

--root holds coco/val2017 and coco/train2017 (or both folders themselves) and paco_part_train.pkl and
paco_part_val.pkl, as published with the benchmark, which name classes by number. Fold f has the classes f, f + 4, ...
in the order of the training file. Of several objects of a class in a photo the one whose part is stated to be largest
is taken (the published code draws one). Creates images (the objects), masks, lists/test.txt and config/pacopart: the
data set is for tests.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from util.errors import UserError
from util.prepare.common import add_root_options
from util.prepare.datasets import class_masks, regions
from util.prepare.datasets.lvis92i import SPLITS, photo_folder
from util.prepare.datasets.regions import Benchmark, Region

NAME, OUT = "pacopart", "data/pacopart"
TRAIN, VAL = "paco_part_train.pkl", "paco_part_val.pkl"
FOLDS, CLASSES = 4, 448
BENCHMARK = Benchmark(NAME, "PACO-Part", FOLDS, "class_then_query", "with_replacement", 2500, CLASSES)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of the photos and the annotations", OUT)
    regions.add_config_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prepare PACO-Part, write its config and print the numbers of masks and classes.

    Raises:
        UserError: a file is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    files = [regions.find_file(options.root, name) for name in (TRAIN, VAL)]
    train, val = map(regions.read_pickle, files)
    try:
        numbers = regions.whole_folds(list(train["cid2img"]), FOLDS, files[0])
        jobs = find_regions(photo_folder(options.root), val, numbers)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{files[1]}: is not in the benchmark's form ({error!r}); unpack it again") from None
    classes = [f"part_{number}" for number in numbers]
    regions.prepare_regions(options, jobs, files, BENCHMARK, classes)
    return 0


def find_regions(photos: Path, content: dict[str, Any], numbers: list[Any]) -> list[Region]:
    """Return a region for each class and photo that shows it, in the order of the classes."""
    out = []
    for class_id, number in enumerate(numbers, 1):
        entries = {key: str(name) for entry in content["cid2img"].get(number, ()) for key, name in entry.items()}
        for key, name in entries.items():
            objects: dict[Any, list[Any]] = {}
            for one in content["img2anno"][key]:
                if one["category_id"] == number:
                    objects.setdefault(one["obj_ann_id"], []).append(one)
            path = next((p for s in SPLITS if (p := photos / s / Path(name).name).exists()), photos / name)
            parts = max(objects.values(), key=_area)
            left, top, width, height = parts[0]["obj_bbox"]
            box = int(left), int(top), int(left + width), int(top + height)
            shapes = tuple(regions.shape_of(part["segmentation"]) for part in parts)
            stem = f"{class_id}/{path.stem}"
            out.append(Region(stem, class_id, f"{stem}.png", path, shapes, box))
    return out


def _area(parts: Iterable[dict[str, Any]]) -> float:
    """Return the stated area of an object's parts, 0 where none is stated."""
    return sum(float(part.get("area") or 0) for part in parts)
