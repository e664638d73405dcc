"""Prepare PASCAL-Part: parts of objects in four folds (animals, indoor, person, vehicles), cut out with their object.

--root holds, at any depth, a folder VOC2010 with JPEGImages, Annotations_Part_json_merged_part_classes and
all_obj_part_to_image.json, as published with the benchmark. A class is an object and a part that occurs in training and
validation photos. Of several objects in a photo the one whose part has the most pixels is taken (the published code
draws one). Creates images (the objects), masks, lists/test.txt and config/pascalpart: the data set is for tests.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.files import read_json
from util.formats.run_lengths import decoded
from util.prepare.datasets import regions
from util.prepare.datasets.recipe import EMPTY, Made, Plan
from util.prepare.datasets.regions import Benchmark, Region

ROOT = "folder of VOC2010 and the annotations of parts"
LIST, ANNOTATIONS = "all_obj_part_to_image.json", "Annotations_Part_json_merged_part_classes"
GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
LEFT_OUT = "aeroplane+TAIL"  # by the published code
BENCHMARK = Benchmark("pascalpart", "PASCAL-Part", len(GROUPS), "class_in_turn", "distinct", 2500)
BOX = ("xmin", "ymin", "xmax", "ymax")


def find(options: argparse.Namespace) -> Plan:
    """Return the plan of PASCAL-Part.

    Raises:
        UserError: a file is missing or damaged.
    """
    source = regions.find_file(options.root, LIST)
    content = read_json(source, "this list", "unpack the benchmark's annotations")
    try:
        photos = photos_of(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{source}: is not in the benchmark's form ({error!r}); unpack it again") from None
    stems = {name: stems for group in photos.values() for name, stems in group.items()}
    classes, jobs = list(stems), []
    for class_id, name in enumerate(classes, 1):
        for stem in (f"{class_id}/{stem}" for stem in stems[name]):
            photo = source.parent / f"JPEGImages/{Path(stem).name}.jpg"
            jobs.append(Region(stem, class_id, f"{stem}.png", photo, (), None))
    benchmark = replace(BENCHMARK, fold_classes=[list(group) for group in photos.values()])
    plan = regions.plan_of(options, jobs, [source], benchmark, classes)
    return replace(plan, make=_Maker(source.parent / ANNOTATIONS, classes), words=(*jobs, *classes))


def photos_of(content: dict[str, Any]) -> dict[str, dict[str, list[str]]]:
    """Return the validation photos of each class, ``object+part``, by group; each photo once.

    Raises:
        ValueError: a group has none.
    """
    out: dict[str, dict[str, list[str]]] = {}
    for group in GROUPS:
        parts = {
            f"{thing}+{part}": splits
            for thing, of_thing in content[group]["object"].items()
            for part, splits in of_thing["part"].items()
        }
        out[group] = {
            name: list(dict.fromkeys(splits["val"]))
            for name, splits in parts.items()
            if splits["train"] and splits["val"] and name != LEFT_OUT
        }
        if not out[group]:
            raise ValueError(f"{group} has no part in training and validation photos")
    return out


class _Maker:
    """Reads the annotation of a region's photo, and writes the region."""

    def __init__(self, folder: Path, classes: list[str]):
        self.folder, self.classes = folder, classes

    def __call__(self, job: Region, out: Path, since: int) -> Made:
        thing, part = self.classes[job.class_id - 1].split("+", 1)
        path = self.folder / f"{job.photo.stem}.json"
        content = read_json(path, "this annotation", "unpack the benchmark's annotations")
        try:
            shapes, box = largest(content, thing, part)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{path}: {part} of {thing}: not in the benchmark's form ({error!r})") from None
        return regions.make_region(replace(job, shapes=shapes, box=box), out, since) if shapes else Made((), (EMPTY,))


def largest(content: dict[str, Any], thing: str, part: str) -> tuple[tuple[Any, ...], tuple[int, int, int, int]]:
    """Return the run lengths of a part of the object whose part has the most pixels, and that object's box."""
    best: tuple[int, tuple[Any, ...], tuple[int, int, int, int]] = (0, (), (0, 0, 0, 0))
    for one in content["object"]:
        if one["name"] != thing:
            continue
        shapes = tuple(regions.shape_of(m) for p in one["parts"] if p["name"] == part for m in p["mask"])
        area = sum(int(np.count_nonzero(decoded(shape))) for shape in shapes if isinstance(shape, dict))
        if area > best[0]:
            left, top, right, bottom = (int(float(one["bndbox"][side])) for side in BOX)
            best = area, shapes, (left, top, right, bottom)
    return best[1], best[2]
