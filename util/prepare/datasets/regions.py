"""Data sets of regions: masks drawn from polygons or run lengths, of whole photos or of objects cut out of them.

The names of their classes stand in the annotations, so the config of such a data set is written when it is prepared.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from util.data.images.orientation import UPRIGHT, turned
from util.data.images.read import header_of, read_image, write_mask
from util.errors import UserError
from util.files import link, read_bytes, write_atomically
from util.formats.annotations import Instance, Photo, Shape
from util.formats.painting import class_mask
from util.prepare.common import compare_count
from util.prepare.datasets.one_class import line_of
from util.prepare.datasets.recipe import EMPTY, IMAGES, MASKS, Facts, Made, Plan
from util.unpickle import RestrictedUnpickler

CLASS = 1  # of every shape of a region
WIDTH = 110  # of a line of YAML
CONFIG = """\
# {title}, for tests. Made by: python prepare.py {name} --root DIR
data:
  name: {name}
  root: {root}
  images: images
  masks: masks
  image_suffix: ""
  mask_form: binary
  train_list: null
  test_list: lists/test.txt
  folds: {folds}
  fold_rule: {fold_rule}
  fold: 0
  rare_classes: skip      # classes with one photo alone
  min_pixels: 1
  size: 401
  text: none
{lists}
test: {{protocol: matcher}}
protocols:
  matcher:                # as in Matcher's code
    {{query: {query}, supports: {supports}, episodes: {episodes}, seeds: [0], input: stretch, side: 518, smooth: true,
     scored_on: letterbox}}
"""


@dataclass(frozen=True)
class Region:
    """One class in one photo, or in one object of it.

    Attributes:
        name: of the prepared mask, without suffix.
        class_id: 1-based.
        photo_name: name of the prepared photo.
        shapes: polygons or run lengths in the photo's stored pixels, whose union is the class.
        box: left, top, right and bottom of the object that is cut out; None keeps the whole photo.
    """

    name: str
    class_id: int
    photo_name: str
    photo: Path
    shapes: tuple[Shape, ...]
    box: tuple[int, int, int, int] | None = None


@dataclass(frozen=True)
class Benchmark:
    """The entries of a generated config beyond names: the title, the folds and the rule of the episodes."""

    name: str
    title: str
    folds: int
    query: str
    supports: str
    episodes: int
    classes: int | None = None  # as documented
    fold_classes: list[list[str]] | None = None


def find_file(root: Path, name: str) -> Path:
    """Return the first file of a name below a folder, or where it would lie in the folder itself."""
    return next(iter(sorted(root.rglob(name))), root / name)


def make_region(job: Region, out: Path, since: int) -> Made:
    """Write a region's mask, and link its photo or write the object cut out of it, unless both are up to date.

    Raises:
        UserError: the photo is missing or damaged, or a shape does not fit it.
    """
    target, photo = out / MASKS / f"{job.name}.png", out / IMAGES / job.photo_name
    made = Made((("test", line_of(job.name, job.class_id, job.photo_name)),), (str(job.class_id),))
    if target.exists() and photo.exists() and target.stat().st_mtime_ns >= since:
        return made
    image = read_image(job.photo)
    (height, width), orientation = header_of(job.photo)
    instances = tuple(Instance(0, CLASS, False, shape) for shape in job.shapes)
    mask = class_mask(Photo(0, str(job.photo), height, width, instances), {CLASS: CLASS})
    mask = turned(mask, orientation)
    if job.box is not None:
        left, top, right, bottom = (max(side, 0) for side in job.box)
        image, mask = image[top:bottom, left:right], np.ascontiguousarray(mask[top:bottom, left:right])
    if not mask.any():
        return Made((), (EMPTY,))
    if job.box is None:
        link(job.photo, photo)
    else:
        encoded = cv2.imencode(".png", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))[1]
        write_atomically(photo, encoded.tobytes())
    write_mask(target, mask, stated=job.box is None and orientation != UPRIGHT)
    return made


def shape_of(segmentation: Any) -> Shape:
    """Return a segmentation of COCO's kinds, polygons or run lengths, as a shape.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(segmentation, dict) and {"size", "counts"} <= segmentation.keys():
        counts = segmentation["counts"]
        if isinstance(counts, bytes):
            counts = counts.decode("ascii")
        elif isinstance(counts, list):
            try:
                counts = np.array(counts, np.uint32)
            except (OverflowError, TypeError) as error:
                raise ValueError(f"its run lengths are no counts ({error})") from None
        return {"size": [int(side) for side in segmentation["size"]], "counts": counts}
    if not isinstance(segmentation, list):
        raise ValueError(f"a segmentation is {type(segmentation).__name__}, neither polygons nor run lengths")
    polygons = tuple(np.array(polygon, np.float64) for polygon in segmentation)
    if any(polygon.ndim != 1 for polygon in polygons):
        raise ValueError("a polygon is no list of numbers")
    return polygons


def read_pickle(path: Path) -> dict[Any, Any]:
    """Return the dictionary of a pickle file, whose code is not executed.

    Raises:
        UserError: the file is missing, or holds other than plain data.
    """
    content = read_bytes(path, "this annotation file", "unpack the download again")
    try:
        table = RestrictedUnpickler(io.BytesIO(content)).load()
    except Exception as error:  # a damaged pickle can raise any exception
        raise UserError(f"{path}: not a dictionary that can be read safely ({error}); unpack it again") from None
    return table


def write_config(options: argparse.Namespace, benchmark: Benchmark, classes: Sequence[str]) -> None:
    """Write the config of a prepared data set, and print its path and a command.

    Raises:
        UserError: a config of that name has other content.
    """
    lists: dict[str, Any] = {"classes": list(classes)}
    if benchmark.fold_classes is not None:
        lists["fold_classes"] = benchmark.fold_classes
    entries = yaml.safe_dump(lists, width=WIDTH, default_flow_style=None, sort_keys=False)
    text = CONFIG.format(
        **vars(benchmark),
        root=options.out,
        fold_rule="interleaved" if benchmark.fold_classes is None else "given",
        lists="".join(f"  {line}\n" for line in entries.splitlines()),
    )
    path = options.config_dir / benchmark.name / f"{benchmark.name}.yaml"
    if path.exists() and path.read_text(encoding="utf-8") != text:
        raise UserError(f"{path}: exists with other content (another --out, or other classes); remove it and repeat")
    write_atomically(path, text)
    print(f"config: {path}; now: MODEL=multiprototype sh test.sh split0 {benchmark.name} 1   (0 in place of 1: CPU)")


def whole_folds(classes: Sequence[Any], folds: int, source: Path) -> list[Any]:
    """Return the classes without the last ones that fill no fold.

    Raises:
        UserError: there are fewer classes than folds.
    """
    if len(classes) < 2 * folds:
        raise UserError(f"{source}: holds {len(classes)} usable classes for {folds} folds; unpack the whole download")
    return list(classes[: len(classes) // folds * folds])


def plan_of(
    options: argparse.Namespace,
    jobs: Sequence[Region],
    sources: Sequence[Path],
    benchmark: Benchmark,
    names: Sequence[str],
) -> Plan:
    """Return the plan that writes masks and photos of regions, and at the end the config of the data set.

    Args:
        sources: the files of annotations, which say all of the jobs.
        names: of the classes.
    """

    def finish(facts: Facts) -> None:
        shown = sum(name.isdecimal() for name in facts.counts)
        print("  " + compare_count("classes", shown, benchmark.classes))
        write_config(options, benchmark, names)

    return Plan(lambda: jobs, make_region, sources, names, finish=finish)
