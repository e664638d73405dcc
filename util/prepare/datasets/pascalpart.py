"""Prepare PASCAL-Part: parts of objects in four folds (animals, indoor, person, vehicles), cut out with their object.

--root holds, at any depth, a folder VOC2010 with JPEGImages, Annotations_Part_json_merged_part_classes and
all_obj_part_to_image.json, as published with the benchmark. A class is an object and a part that occurs in training and
validation photos. Of several objects in a photo the one whose part has the most pixels is taken (the published code
draws one). Creates images (the objects), masks, lists/test.txt and config/pascalpart: the data set is for tests.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from util.errors import UserError
from util.files import read_json
from util.formats.run_lengths import decoded
from util.prepare.common import add_root_options
from util.prepare.datasets import class_masks, regions
from util.prepare.datasets.class_masks import Made
from util.prepare.datasets.regions import Benchmark, Region

NAME, OUT = "pascalpart", "data/pascalpart"
LIST, ANNOTATIONS = "all_obj_part_to_image.json", "Annotations_Part_json_merged_part_classes"
GROUPS = ("animals", "indoor", "person", "vehicles")  # the folds
LEFT_OUT = "aeroplane+TAIL"  # by the published code
EPISODES = 2500
BOX = ("xmin", "ymin", "xmax", "ymax")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    add_root_options(parser, "folder of VOC2010 and the annotations of parts", OUT)
    regions.add_config_option(parser)


def run(options: argparse.Namespace) -> int:
    """Prepare PASCAL-Part, write its config and print the numbers of masks and classes.

    Raises:
        UserError: a file is missing or damaged; no list is written then.
    """
    class_masks.check_root(options.root, options.out)
    source = regions.find_file(options.root, LIST)
    content = read_json(source, "this list", "unpack the benchmark's annotations")
    try:
        photos = photos_of(content)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{source}: is not in the benchmark's form ({error!r}); unpack it again") from None
    classes = [name for group in photos.values() for name in group]
    jobs = [
        Region(f"{class_id}/{stem}", class_id, f"{class_id}/{stem}.png", source.parent / f"JPEGImages/{stem}.jpg", ())
        for class_id, (name, stems) in enumerate((x for group in photos.values() for x in group.items()), 1)
        for stem in stems
    ]
    make = _Maker(source.parent / ANNOTATIONS, tuple(classes))
    facts = class_masks.make_all(options.out, jobs, make, [source], classes, (), options.skip_bad)
    class_masks.print_facts(facts, {})
    folds = [list(group) for group in photos.values()]
    benchmark = Benchmark(NAME, "PASCAL-Part", len(GROUPS), "class_in_turn", "distinct", EPISODES, fold_classes=folds)
    regions.write_config(options, benchmark, classes)
    return 0


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

    def __init__(self, folder: Path, classes: tuple[str, ...]):
        self.folder, self.classes = folder, classes

    def __call__(self, job: Region, out: Path, since: int) -> Made:
        thing, part = self.classes[job.class_id - 1].split("+", 1)
        path = self.folder / f"{job.photo.stem}.json"
        content = read_json(path, "this annotation", "unpack the benchmark's annotations")
        try:
            shapes, box = largest(content, thing, part)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise UserError(f"{path}: {part} of {thing}: not in the benchmark's form ({error!r})") from None
        if not shapes:
            return Made(empty=1)
        return regions.make_region(Region(job.name, job.class_id, job.photo_name, job.photo, shapes, box), out, since)


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
