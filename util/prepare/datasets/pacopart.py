"""Prepare PACO-Part: parts of objects in four folds, each cut out with its object's box.

--root holds coco/val2017 and coco/train2017 (or both folders themselves) and paco_part_train.pkl and
paco_part_val.pkl, as published with the benchmark, which name classes by number. Fold f has the classes f, f + 4, ...
in the order of the training file, 448 in all; with one shot 79, 82, 66 and 76 of them have the validation photos that a
test needs. Of several objects of a class in a photo one is drawn at random, as published, but once for all. Creates
images (the objects), masks, lists/test.txt and config/pacopart: the data set is for tests.
"""

import argparse

from util.errors import UserError
from util.formats.coco import shape_of
from util.prepare.datasets import recipe
from util.prepare.datasets.recipe import MaskJob, Plan

ROOT = "folder of the photos and the annotations"
RULE = {"title": "PACO-Part", "folds": 4, "query": "class_then_query", "supports": "with_replacement", "episodes": 2500}


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PACO-Part: a region for each class and photo that shows it, in the order of the classes."""
    files = [recipe.find_file(options.root, f"paco_part_{part}.pkl") for part in ("train", "val")]
    with recipe.published_form(files[0]):
        numbers = list(recipe.read_pickle(files[0])["cid2img"])
    numbers, jobs, photos = numbers[: len(numbers) // 4 * 4], list[MaskJob](), list[int]()
    with recipe.published_form(files[1]):
        val = recipe.read_pickle(files[1])
        for class_id, number in enumerate(numbers, 1):
            entries = {key: str(name) for entry in val["cid2img"].get(number, ()) for key, name in entry.items()}
            photos.append(len(entries))
            for key, name in entries.items():
                if not (parts := [part for part in val["img2anno"][key] if part["category_id"] == number]):
                    continue
                photo = recipe.coco_photo(options.root, name)
                chosen = recipe.drawn(sorted({part["obj_ann_id"] for part in parts}), class_id, photo.stem)
                own = [part for part in parts if part["obj_ann_id"] == chosen]
                left, top, width, height = own[0]["obj_bbox"]
                box = int(left), int(top), int(left + width), int(top + height)
                shapes, mask = tuple(shape_of(part["segmentation"]) for part in own), f"{class_id}/{photo.stem}"
                jobs.append(MaskJob(photo, (shapes, box), mask, class_id, f"{mask}.png"))
    known = {int(row["paco_id"]): row["name"] for row in recipe.listed("paco_part/categories.csv")}
    names = known if all(number in known for number in numbers) else {}
    by_fold = [sum(count > 1 for count in photos[fold::4]) for fold in range(4)]
    if empty := [str(fold) for fold, count in enumerate(by_fold) if not count]:
        raise UserError(f"{files[1]}: no class of fold {', '.join(empty)} has two photos; unpack the annotations again")
    note = f"classes tested with one shot by fold: {by_fold}, published [79, 82, 66, 76]"
    lists = {"classes": [names.get(number, f"part_{number}") for number in numbers]}
    return recipe.plan_of(options, jobs, files, lists, RULE, 448, notes=[note])
