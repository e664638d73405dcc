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
from util.prepare.datasets import regions
from util.prepare.datasets.lvis92i import find_photo, photo_folder
from util.prepare.datasets.recipe import Plan
from util.prepare.datasets.regions import Benchmark, Region

ROOT = "folder of the photos and the annotations"
TRAIN, VAL = "paco_part_train.pkl", "paco_part_val.pkl"
BENCHMARK = Benchmark("pacopart", "PACO-Part", 4, "class_then_query", "with_replacement", 2500, 448)


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PACO-Part.

    Raises:
        UserError: a file is missing or damaged.
    """
    files = [regions.find_file(options.root, name) for name in (TRAIN, VAL)]
    train, val = map(regions.read_pickle, files)
    try:
        numbers = regions.whole_folds(list(train["cid2img"]), BENCHMARK.folds, files[0])
        jobs = _regions(photo_folder(options.root), val, numbers)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{files[1]}: is not in the benchmark's form ({error!r}); unpack it again") from None
    return regions.plan_of(options, jobs, files, BENCHMARK, [f"part_{number}" for number in numbers])


def _regions(photos: Path, content: dict[str, Any], numbers: list[Any]) -> list[Region]:
    """Return a region for each class and photo that shows it, in the order of the classes."""
    out = []
    for class_id, number in enumerate(numbers, 1):
        entries = {key: str(name) for entry in content["cid2img"].get(number, ()) for key, name in entry.items()}
        for key, name in entries.items():
            objects: dict[Any, list[Any]] = {}
            for one in content["img2anno"][key]:
                if one["category_id"] == number:
                    objects.setdefault(one["obj_ann_id"], []).append(one)
            path, parts = find_photo(photos, name), max(objects.values(), key=_area)
            left, top, width, height = parts[0]["obj_bbox"]
            box = int(left), int(top), int(left + width), int(top + height)
            shapes = tuple(regions.shape_of(part["segmentation"]) for part in parts)
            stem = f"{class_id}/{path.stem}"
            out.append(Region(stem, class_id, f"{stem}.png", path, shapes, box))
    return out


def _area(parts: Iterable[dict[str, Any]]) -> float:
    """Return the stated area of an object's parts, 0 where none is stated."""
    return sum(float(part.get("area") or 0) for part in parts)
