"""Prepare PACO-Part: parts of objects in four folds, each cut out with its object's box.

--root holds coco/val2017 and coco/train2017 (or both folders themselves) and paco_part_train.pkl and
paco_part_val.pkl, as published with the benchmark, which name classes by number. Fold f has the classes f, f + 4, ...
in the order of the training file, 448 in all; with one shot 79, 82, 66 and 76 of them have the validation photos that a
test needs. Of several objects of a class in a photo one is drawn at random, as published, but once for all. Creates
images (the objects), masks, lists/test.txt and config/pacopart: the data set is for tests.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from annotations.coco import shape_of
from datasets.recipes import recipe
from datasets.recipes.recipe import MaskJob, Plan
from util.files.errors import UserError

FOLDS = 4
RULE = {
    "title": "PACO-Part",
    "folds": FOLDS,
    "query": "class_then_query",
    "supports": "with_replacement",
    "episodes": 2500,
}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PACO-Part: a region for each class and photo that shows it, in the order of the classes."""
    train_file, val_file = (recipe.find_file(options.root, f"paco_part_{part}.pkl") for part in ("train", "val"))
    with recipe.published_form(train_file):
        paco_ids = list(recipe.read_pickle(train_file)["cid2img"])
    paco_ids = paco_ids[: len(paco_ids) // FOLDS * FOLDS]
    jobs = []
    photo_counts = []
    with recipe.published_form(val_file):
        content = recipe.read_pickle(val_file)
        for class_id, paco_id in enumerate(paco_ids, 1):
            photos = _photos_of_class(content["cid2img"].get(paco_id, ()))
            photo_counts.append(len(photos))
            for key, name in photos.items():
                parts = [part for part in content["img2anno"][key] if part["category_id"] == paco_id]
                if parts:
                    jobs.append(_draw_object(parts, class_id, recipe.coco_photo(options.root, name)))

    tested = [sum(count > 1 for count in photo_counts[fold::FOLDS]) for fold in range(FOLDS)]  # a query and a support
    untested = [str(fold) for fold, count in enumerate(tested) if not count]
    if untested:
        raise UserError(
            f"{val_file}: no class of fold {', '.join(untested)} has two photos; unpack the annotations again"
        )
    note = f"classes tested with one shot by fold: {tested}, published [79, 82, 66, 76]"
    return recipe.plan_of(
        options,
        jobs,
        lists={"classes": _class_names(paco_ids)},
        rule=RULE,
        classes=448,
        notes=[note],
    )


def _photos_of_class(entries: Iterable[dict[Any, str]]) -> dict[Any, str]:
    """Return the names of a class's photos by their keys, which several entries may have."""
    photos = {}
    for entry in entries:
        photos.update({key: str(name) for key, name in entry.items()})
    return photos


def _draw_object(parts: Sequence[dict[str, Any]], class_id: int, photo: Path) -> MaskJob:
    """Return the job of a photo: the parts in one of its objects, drawn at random, cut out with its box."""
    objects = sorted({part["obj_ann_id"] for part in parts})
    chosen = recipe.draw_object(objects, class_id, photo.stem)
    chosen_parts = [part for part in parts if part["obj_ann_id"] == chosen]
    left, top, width, height = chosen_parts[0]["obj_bbox"]
    box = int(left), int(top), int(left + width), int(top + height)
    shapes = tuple(shape_of(part["segmentation"]) for part in chosen_parts)
    name = f"{class_id}/{photo.stem}"
    return MaskJob(photo, (shapes, box), name, class_id, photo_name=f"{name}.png")


def _class_names(paco_ids: Sequence[int]) -> list[str]:
    """Return the names of all classes, or their numbers if one of them has no name."""
    names = {int(row["paco_id"]): row["name"] for row in recipe.read_table("paco_part/categories.csv")}
    if not all(paco_id in names for paco_id in paco_ids):
        return [f"part_{paco_id}" for paco_id in paco_ids]
    return [names[paco_id] for paco_id in paco_ids]


RECIPE = recipe.Recipe("pacopart", __doc__, {"root": "folder of the photos and the annotations"}, find)
