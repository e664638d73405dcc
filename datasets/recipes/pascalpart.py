"""Prepare PASCAL-Part: parts of objects in four folds (animals, indoor, person, vehicles), cut out with their object.

--root holds, at any depth, a folder VOC2010 with JPEGImages and either all_obj_part_to_image.json and
Annotations_Part_json_merged_part_classes, as published with the benchmark, or the official Annotations_Part (.mat) and
ImageSets/Main/val.txt. A class is an object and a part that occurs in training and validation photos: 31, 4, 5 and 16.
Of several objects of a class in a photo one is drawn at random, as published, but once for all. Creates images (the
objects), masks, lists/test.txt and config/pascalpart: the data set is for tests.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from annotations.annotation import Shape
from annotations.coco import shape_of
from annotations.shapes import decoded, encoded
from datasets.recipes.recipe import (
    MaskJob,
    Piece,
    Plan,
    Recipe,
    compare_classes,
    draw_object,
    find_file,
    plan_of,
    published_form,
    read_mat,
    read_table,
    region,
)
from util.files import read_json, read_text
from util.files.errors import UserError
from util.files.parallel import parallel_map

GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
RULE = {"title": "PASCAL-Part", "folds": 4, "query": "class_in_turn", "supports": "distinct"}
CLASSES = "pascal_part/classes.csv"  # of ``lists/``
UNUSED = "aeroplane+TAIL"
OFFICIAL = "Annotations_Part"


class Object(NamedTuple):
    """An object of an annotation."""

    name: str
    box: tuple[int, ...]  # left, top, right, bottom
    parts: Sequence[tuple[str, Shape]]  # names and shapes


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PASCAL-Part."""
    source = find_file(options.root, "all_obj_part_to_image.json", OFFICIAL)
    folder = source.parent
    with published_form(source):
        groups = official_photos(source) if source.is_dir() else photos_of(source)
    photos = {name: list(dict.fromkeys(stems)) for group in groups for name, stems in group.items()}
    annotations = f"{OFFICIAL}/{{}}.mat" if source.is_dir() else "Annotations_Part_json_merged_part_classes/{}.json"
    jobs = []
    for class_id, (name, stems) in enumerate(photos.items(), 1):
        for stem in stems:
            photo = folder / f"JPEGImages/{stem}.jpg"
            annotation = folder / annotations.format(stem)
            mask_name = f"{class_id}/{stem}"
            jobs.append(MaskJob(photo, (annotation, name), mask_name, class_id, photo_name=f"{mask_name}.png"))

    published = [f"{row['object']}+{row['part']}" for row in read_table(CLASSES)]
    episodes = [min(2500, sum(map(len, group.values()))) for group in groups]  # at most the photos of its lists
    return plan_of(
        options,
        jobs,
        sources=[source],
        lists={"classes": list(photos), "fold_classes": [list(group) for group in groups]},
        rule={**RULE, "episodes": episodes},
        classes=56,
        read=drawn_part,
        notes=[
            f"classes, lists/{CLASSES}: {compare_classes(photos, published)}",
            f"episodes by fold: {episodes}, published [2500, 959, 2500, 2500]",
        ],
    )


def photos_of(path: Path) -> list[dict[str, list[str]]]:
    """Return the validation photos of each class, ``object+part``, of each group; ValueError if it has none."""
    content = read_json(path, "this list", "unpack the benchmark's annotations")
    groups = []
    for group in GROUPS:
        photos = {}
        for thing, description in content[group]["object"].items():
            for part, splits in description["part"].items():
                name = f"{thing}+{part}"
                if splits["train"] and splits["val"] and name != UNUSED:
                    photos[name] = splits["val"]
        if not photos:
            raise ValueError(f"{group} has no part in training and validation photos")
        groups.append(photos)
    return groups


def official_photos(folder: Path) -> list[dict[str, list[str]]]:
    """Return the validation photos of each listed class by the official annotations, of each group.

    UserError: the list of photos is missing, an annotation is damaged, or a group has no photo.
    """
    stems = read_text(folder.parent / "ImageSets/Main/val.txt", "this list", "unpack VOC 2010").split()
    paths = [path for stem in stems if (path := folder / f"{stem}.mat").exists()]
    photos: dict[str, list[str]] = {}
    for path, classes in zip(paths, parallel_map(_classes_of, paths, "annotations")):
        for name in classes:
            photos.setdefault(name, []).append(path.stem)
    groups: list[dict[str, list[str]]] = [{} for _ in GROUPS]
    for row in read_table(CLASSES):
        name = f"{row['object']}+{row['part']}"
        if name in photos:
            groups[int(row["fold"])][name] = photos[name]
    for title, group in zip(GROUPS, groups):
        if not group:
            raise UserError(f"{folder}: no validation photo shows a part of {title}; unpack all annotations")
    return groups


def _classes_of(path: Path) -> set[str]:
    """Return the classes of a photo's annotation, ``object+part``; errors as ``objects_of``."""
    return {f"{thing.name}+{part}" for thing in objects_of(path) for part, _ in thing.parts}


def objects_of(path: Path) -> list[Object]:
    """Return the objects of a photo with their merged parts; UserError for an annotation of another form.

    The box of an official file ends before the last row and column, as published.
    """
    with published_form(path):
        return _read_benchmark(path) if path.suffix == ".json" else _read_official(path)


def _read_benchmark(path: Path) -> list[Object]:
    """Return the objects of a photo in the benchmark's annotation."""
    objects = []
    for thing in read_json(path, "this annotation", "unpack the benchmark's annotations")["object"]:
        box = tuple(int(float(thing["bndbox"][side])) for side in ("xmin", "ymin", "xmax", "ymax"))
        parts = [(part["name"], shape_of(mask)) for part in thing["parts"] for mask in part["mask"]]
        objects.append(Object(thing["name"], box, parts))
    return objects


def _read_official(path: Path) -> list[Object]:
    """Return the objects of a photo in the official annotation, with the benchmark's names of objects and parts."""
    merged = {row["part"]: row["merged"] for row in read_table("pascal_part/parts.csv")}
    content = read_mat(path)
    objects = []
    for thing in np.atleast_1d(content["anno"].objects):
        name = str(getattr(thing, "class"))
        parts = []
        for part in np.atleast_1d(thing.parts):
            part_name = str(part.part_name)
            if part_name in merged:
                parts.append((merged[part_name], encoded(np.atleast_2d(part.mask) > 0)))
        box = _box_of(np.atleast_2d(thing.mask))
        objects.append(Object("diningtable" if name == "table" else name, box, parts))
    return objects


def _box_of(mask: np.ndarray) -> tuple[int, ...]:
    """Return left, top, right and bottom, the last column and row, of a mask; zeros if it is empty."""
    rows, columns = np.nonzero(mask)
    if not len(rows):
        return (0, 0, 0, 0)
    return int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())


def drawn_part(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield the part of an object, drawn from those that show it; ``job.source`` is the annotation and the class."""
    path, class_name = job.source
    object_name, part_name = class_name.split("+", 1)
    candidates = []
    with published_form(path):
        for thing in objects_of(path):
            shapes = tuple(shape for name, shape in thing.parts if name == part_name)
            if thing.name == object_name and any(map(_has_pixels, shapes)):
                candidates.append((shapes, thing.box))
    if candidates:
        chosen = draw_object(candidates, job.class_id, path.stem)
        yield from region(replace(job, source=chosen), image)


def _has_pixels(shape: Shape) -> bool:
    return not isinstance(shape, dict) or bool(decoded(shape).any())


RECIPE = Recipe("pascalpart", __doc__, {"root": "folder of VOC2010 and the annotations of parts"}, find)
