"""Prepare PASCAL-Part: parts of objects in four folds (animals, indoor, person, vehicles), cut out with their object.

--root holds, at any depth, a folder VOC2010 with JPEGImages and either all_obj_part_to_image.json and
Annotations_Part_json_merged_part_classes, as published with the benchmark, or the official Annotations_Part (.mat) and
ImageSets/Main/val.txt. A class is an object and a part that occurs in training and validation photos: 31, 4, 5 and 16.
Of several objects of a class in a photo one is drawn at random, as published, but once for all. Creates images (the
objects), masks, lists/test.txt and config/pascalpart: the data set is for tests.
"""

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.files import read_json, read_text
from util.formats.coco import shape_of
from util.formats.shapes import decoded, encoded
from util.parallel import parallel_map
from util.prepare.datasets.recipe import MaskJob, Piece, Plan, drawn, find_file, listed, plan_of, published_form, region

ROOT = "folder of VOC2010 and the annotations of parts"
GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
RULE = {"title": "PASCAL-Part", "folds": 4, "query": "class_in_turn", "supports": "distinct"}
CLASSES = "pascal_part/classes.csv"  # of ``lists/``
OFFICIAL = "Annotations_Part"
Object = tuple[str, tuple[int, ...], list[tuple[str, Any]]]  # name; left, top, right, bottom; parts and their shapes


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PASCAL-Part."""
    source = find_file(options.root, "all_obj_part_to_image.json", OFFICIAL)
    with published_form(source):
        groups = official_photos(source) if source.is_dir() else photos_of(source)
    photos = {name: list(dict.fromkeys(stems)) for group in groups for name, stems in group.items()}
    classes, folder, jobs = list(photos), source.parent, []
    part = f"{OFFICIAL}/{{}}.mat" if source.is_dir() else "Annotations_Part_json_merged_part_classes/{}.json"
    for class_id, name in enumerate(classes, 1):
        for stem in photos[name]:
            photo, made_from = folder / f"JPEGImages/{stem}.jpg", (folder / part.format(stem), name)
            jobs.append(MaskJob(photo, made_from, f"{class_id}/{stem}", class_id, f"{class_id}/{stem}.png"))
    lists = {"classes": classes, "fold_classes": [list(group) for group in groups]}
    episodes = [min(2500, sum(map(len, group.values()))) for group in groups]  # at most the photos of its lists
    others = sorted({*classes} ^ {f"{row['object']}+{row['part']}" for row in listed(CLASSES)})
    note = f"classes, lists/{CLASSES}: " + (f"differ: {', '.join(others[:5])}" if others else "OK")
    notes = [note, f"episodes by fold: {episodes}, published [2500, 959, 2500, 2500]"]
    return plan_of(options, jobs, [source], lists, {**RULE, "episodes": episodes}, 56, drawn_part, notes)


def photos_of(path: Path) -> list[dict[str, list[str]]]:
    """Return the validation photos of each class, ``object+part``, of each group; ValueError if it has none."""
    content, out = read_json(path, "this list", "unpack the benchmark's annotations"), []
    for group in GROUPS:
        parts = {
            f"{thing}+{part}": splits
            for thing, of_thing in content[group]["object"].items()
            for part, splits in of_thing["part"].items()
        }
        usable = {name: s["val"] for name, s in parts.items() if s["train"] and s["val"] and name != "aeroplane+TAIL"}
        if not usable:
            raise ValueError(f"{group} has no part in training and validation photos")
        out.append(usable)
    return out


def official_photos(folder: Path) -> list[dict[str, list[str]]]:
    """Return the validation photos of each listed class by the official annotations, of each group.

    UserError: the list of photos is missing, an annotation is damaged, or a group has no photo.
    """
    names = read_text(folder.parent / "ImageSets/Main/val.txt", "this list", "unpack VOC 2010").split()
    paths = [path for stem in names if (path := folder / f"{stem}.mat").exists()]
    shown = [
        (path.stem, {f"{thing}+{part}" for thing, _, shapes in objects for part, _ in shapes})
        for path, objects in zip(paths, parallel_map(objects_of, paths, "annotations"))
    ]
    out: list[dict[str, list[str]]] = [{} for _ in GROUPS]
    for row in listed(CLASSES):
        name = f"{row['object']}+{row['part']}"
        if stems := [stem for stem, classes in shown if name in classes]:
            out[int(row["fold"])][name] = stems
    if lacking := [group for group, of_group in zip(GROUPS, out) if not of_group]:
        raise UserError(f"{folder}: no validation photo shows a part of {lacking[0]}; unpack all annotations")
    return out


def objects_of(path: Path) -> list[Object]:
    """Return the objects of a photo with their merged parts; UserError for an annotation of another form.

    The box of an official file ends before the last row and column, as published.
    """
    out: list[Object] = []
    with published_form(path):
        if path.suffix == ".json":
            for one in read_json(path, "this annotation", "unpack the benchmark's annotations")["object"]:
                shapes = [(part["name"], shape_of(mask)) for part in one["parts"] for mask in part["mask"]]
                box = tuple(int(float(one["bndbox"][side])) for side in ("xmin", "ymin", "xmax", "ymax"))
                out.append((one["name"], box, shapes))
            return out
        from scipy.io import loadmat  # imported where it is called: it would delay every command

        merged = {row["part"]: row["merged"] for row in listed("pascal_part/parts.csv")}
        for one in np.atleast_1d(loadmat(path, squeeze_me=True, struct_as_record=False)["anno"].objects):
            parts = [part for part in np.atleast_1d(one.parts) if str(part.part_name) in merged]
            shapes = [(merged[str(part.part_name)], encoded(np.atleast_2d(part.mask) > 0)) for part in parts]
            rows, columns = np.nonzero(np.atleast_2d(one.mask))
            ends = (columns.min(), rows.min(), columns.max(), rows.max()) if len(rows) else (0, 0, 0, 0)
            name = str(getattr(one, "class"))
            out.append(("diningtable" if name == "table" else name, tuple(map(int, ends)), shapes))
    return out


def drawn_part(job: MaskJob, image: np.ndarray) -> Iterator[Piece]:
    """Yield the part of one object that shows it; ``job.source`` is the annotation and the class."""
    path, name = job.source
    thing, part = name.split("+", 1)
    with published_form(path):
        objects = [(shapes, box) for one, box, shapes in objects_of(path) if one == thing]
        found = [([shape for name, shape in shapes if name == part], box) for shapes, box in objects]
        shown = [one for one in found if any(not isinstance(s, dict) or decoded(s).any() for s in one[0])]
    if shown:
        shapes, box = drawn(shown, job.class_id, path.stem)
        yield from region(replace(job, source=(tuple(shapes), box)), image)
