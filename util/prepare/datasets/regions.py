"""Data sets of regions: masks drawn from polygons or run lengths, of whole photos or of objects cut out of them.

The names of their classes stand in the annotations, so the config of such a data set is written when it is prepared.
"""

import argparse
import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import yaml

from util.data.images.read import header_of, turned
from util.data.sampling import CHOICE, random_stream
from util.errors import UserError
from util.formats.annotations import Instance, Photo
from util.formats.painting import class_mask
from util.prepare.datasets.recipe import Job, Piece, Plan, line_of
from util.unpickle import RestrictedUnpickler

Drawn = TypeVar("Drawn")

CONFIG = Path(__file__).with_suffix(".yaml")  # of such a data set, with its values in braces
SPLITS = ("val2017", "train2017")  # folders of COCO's photos; LVIS's validation photos lie in both


def region(job: Job, image: np.ndarray) -> Iterator[Piece]:
    """Yield the union of shapes in a photo, or in the object that is cut out of it.

    ``job.source`` holds the shapes, in the photo's stored pixels, and left, top, right and bottom of the object; None
    keeps the whole photo. UserError: a shape does not fit the photo.
    """
    shapes, box = job.source
    (height, width), orientation = header_of(job.photo)
    instances = tuple(Instance(0, 1, False, shape) for shape in shapes)
    mask = class_mask(Photo(0, str(job.photo), height, width, instances), {1: 1})
    mask, part = turned(mask, orientation), None
    if box is not None:
        left, top, right, bottom = (max(side, 0) for side in box)
        mask, part = np.ascontiguousarray(mask[top:bottom, left:right]), image[top:bottom, left:right]
    if mask.any():
        yield Piece(job.line, mask, part)


@contextmanager
def published_form(path: Path) -> Iterator[None]:
    """Turn an error of reading annotations that are damaged, unsafe or in another form into one line, a UserError."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a damaged pickle can raise any exception
        raise UserError(f"{path}: is not in its published form ({error!r}); unpack it again") from None


def find_file(root: Path, *names: str) -> Path:
    """Return the first file of one of some names below a folder; UserError if there is none."""
    if found := next((path for name in names for path in sorted(root.rglob(name))), None):
        return found
    raise UserError(f"{root}: holds no {' or '.join(names)}; unpack the annotations there")


def read_pickle(path: Path) -> Any:
    """Return the content of a pickle file, whose code is not executed."""
    return RestrictedUnpickler(io.BytesIO(path.read_bytes())).load()


def coco_photo(root: Path, name: str) -> Path:
    """Return the path of a photo of COCO 2017 in the split that is stated, or in another one."""
    base = root / "coco" if (root / "coco").is_dir() else root
    places = (base / name, *(base / split / Path(name).name for split in SPLITS))
    return next((path for path in places if path.exists()), base / name)


def plan_of(
    options: argparse.Namespace,
    jobs: Sequence[Job],
    sources: Sequence[Path],
    lists: dict[str, Any],
    rule: dict[str, Any],
    classes: int | None = None,
    read: Callable[[Job, np.ndarray], Iterator[Piece]] = region,
    notes: Sequence[str] = (),
) -> Plan:
    """Return the plan of a data set with its config, ``classes`` of which are published.

    ``lists`` holds ``classes``, and ``fold_classes`` where the folds are not interleaved, or ``class_photos``; ``rule``
    the entries of the config's text: title, folds, query, supports, episodes; protocol and fold_rule if others.
    """
    for job in jobs:
        line_of(job.name, job.class_id, job.photo_name)  # refuses names of files before anything is compared
    text = yaml.safe_dump(lists, width=110, default_flow_style=None, sort_keys=False)
    usual = {"fold_rule": "given" if "fold_classes" in lists else "interleaved", "protocol": "matcher"}
    config = CONFIG.read_text(encoding="utf-8").format(
        **usual | rule,
        name=options.what,
        root=options.out,
        lists="".join(f"  {line}\n" for line in text.splitlines()),
    )
    return Plan(jobs, read, lists["classes"], {"classes": classes}, notes, sources=sources, config=config)


def drawn(objects: Sequence[Drawn], class_id: int, photo: str) -> Drawn:
    """Return one of the objects of a class in a photo, drawn at random, the same in every preparation."""
    return objects[int(random_stream(0, CHOICE, class_id, zlib.crc32(photo.encode())).integers(len(objects)))]
