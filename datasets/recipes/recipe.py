"""A recipe says how the download of a data set becomes photos, masks and lists.

A recipe is a module of this package that has a ``RECIPE``; nothing else names it. README.md beside it has an example.
"""

import argparse
import csv
import io
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import yaml

from annotations.annotation import AnnotatedPhoto, Instance, class_mask
from annotations.mask_formats import opened_mask, read_mask_of
from annotations.mask_set import MaskFacts, check_palettes, facts_of_all
from annotations.pictures import header_of
from util.config.read import read_data
from util.data.lists.index import count_classes
from util.data.sampling import CHOICE, random_stream
from util.files.errors import UserError
from util.files.folders import paths_below
from util.files.images import check_photo, turned
from util.files.mask_images import fitted_mask, read_mask
from util.files.parallel import result_or_error
from util.files.pickles import RestrictedUnpickler
from util.files.project import REPOSITORY

DIFFERS = "differs"
CONFIG = Path(__file__).with_suffix(".yaml")  # of a data set whose annotations name its classes, with values in braces
THRESHOLD = 128  # a grey value from which on it is on, as published


@dataclass(frozen=True)
class MaskJob:
    """A photo, and the mask that is made for it."""

    photo: Path
    source: Any  # what the mask is made from, for ``Plan.read``: mostly a file
    name: str  # of the mask, without suffix
    class_id: int = 0  # of a mask of one class, 1-based; 0 if the mask holds class ids
    photo_name: str = ""  # of the prepared photo, for masks of one class
    parts: tuple[str, ...] = ("test",)  # the lists that it goes to

    @property
    def line(self) -> str:
        """The line of the lists; raises as ``line_of`` does."""
        return line_of(self.name, self.class_id, self.photo_name)


class Piece(NamedTuple):
    """A mask that is read: its values (H, W) uint8 or a file to link, and pixels to write as its photo."""

    mask: np.ndarray | Path
    photo: np.ndarray | None = None
    covered: tuple[int, ...] = ()  # class ids of objects that others cover wholly


Read = Callable[[MaskJob, np.ndarray], Piece | None]


@dataclass(frozen=True)
class Plan:
    """The jobs and the lists of a data set.

    ``jobs`` stand in the order of the lines of the lists. ``read`` returns the mask of a job and its photo, upright
    (H, W, 3) uint8; None where the class shows no pixel.
    """

    jobs: Sequence[MaskJob]
    read: Read
    classes: Sequence[str] = ()  # names, to count the masks of each
    published: Mapping[str, int | None] = field(default_factory=dict)  # list, class or "classes" -> documented count
    notes: Sequence[str] = ()  # to be printed
    parts: Sequence[str] = ("test",)  # the lists that must not be empty
    images: str = "images"  # folders of the prepared data set
    masks: str = "masks"
    lists: str = "lists"
    suffix: str = ".png"  # of its photos, where masks hold class ids
    # Texts of the data set's configs by name of the file, where the annotations name its classes
    configs: dict[str, str] = field(default_factory=dict)

    def outputs(self, job: MaskJob) -> tuple[Path, Path]:
        """Return mask and photo of a job, relative to the prepared folder."""
        return Path(self.masks, f"{job.name}.png"), Path(self.images, job.photo_name or job.name + self.suffix)


@dataclass(frozen=True)
class Recipe:
    """A data set and its command, ``prepare.py <name>``."""

    name: str
    help: str | None  # of the command: the docstring of the recipe's module
    given: Mapping[str, str]  # option -> what was downloaded and unpacked by hand, for its help
    # Returns the plan for the options of the command, or refuses (UserError) files that are missing or damaged
    find: Callable[[argparse.Namespace], Plan]
    optional: Sequence[str] = ()  # options that may be left out
    out: str = ""  # the folder that is made unless ``--out`` names one; data/<name>
    shares_folder: bool = False  # ``--out`` may hold other files, such as the download


def line_of(name: str, class_id: int, photo_name: str) -> str:
    """Return a line of a list: the name alone of a mask of class ids; mask, class and photo of a mask of one class.

    UserError: a name has a space, or leads out of its folder.
    """
    words = [name, str(class_id), photo_name] if class_id else [name]
    for word in words:
        if not word.isprintable() or len(word.split()) != 1:
            raise UserError(
                f"{word}: a list cannot hold a file name with a space, a line break or bytes that are not UTF-8",
                fix="rename the file",
            )
        if word.startswith("/") or ".." in word.split("/"):
            raise UserError(f"{word}: leads out of the prepared folder; correct the annotations")
    return " ".join(words)


def classes_of(dataset: str) -> list[str]:
    """Return the classes of a data set of this project."""
    return read_data(REPOSITORY / "config" / dataset / f"{dataset}.yaml").classes


def read_table(name: str) -> list[dict[str, str]]:
    """Return the rows of a CSV file of ``lists/``, each by its columns."""
    with (REPOSITORY / "lists" / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def matching(files: Iterable[Path], pattern: str) -> dict[str, Path]:
    """Return files whose whole name matches a pattern, by its first group in upper case; raises as ``by_name`` does."""
    matches = ((re.fullmatch(pattern, path.name, re.IGNORECASE), path) for path in files)
    return by_name((match[1].upper(), path) for match, path in matches if match)


def by_name(named: Iterable[tuple[str, Path]]) -> dict[str, Path]:
    """Return files by name; refuse (UserError) two of one name."""
    paths: dict[str, Path] = {}
    for name, path in named:
        if paths.setdefault(name, path) is not path:
            raise UserError(f"{paths[name]} and {path} are both {name}; remove one")
    return paths


def compare_count(title: str, count: int, expected: int | None) -> str:
    """Return a line with a count, the published count (None if unknown) and whether both agree."""
    if expected is None:
        return f"{title}: {count}"
    return f"{title}: {count}, published {expected}: {'OK' if count == expected else DIFFERS}"


def compare_classes(given: Iterable[Any], published: Iterable[Any]) -> str:
    """Say whether the classes are the published ones; else name some that are only here or only there."""
    different = sorted({*given} ^ {*published})
    return f"differ: {', '.join(map(str, different[:5]))}" if different else "OK"


def labels(job: MaskJob, image: np.ndarray, classes: int) -> Piece:
    """Return a mask of class ids 0 to ``classes`` and 255; UserError: it is damaged, or does not fit its photo."""
    mask = read_mask_of(job.photo, job.source)
    count_classes(mask, job.source, classes)
    is_linked = is_read(check_photo, job.photo) and is_read(read_mask, job.source)
    return Piece(job.source if is_linked else mask)


def is_read(read: Callable[[Path], object], file: Path) -> bool:
    """Return whether trainings and tests read a file as it is; else it is converted."""
    return not isinstance(result_or_error(read, file), UserError)


def check_masks(jobs: Sequence[MaskJob]) -> None:
    """Refuse (UserError) masks of jobs whose palettes give a value two colours."""
    masks = [job.source for job in jobs if isinstance(job.source, Path) and job.source.suffix == ".png"]
    check_palettes(mask for mask in facts_of_all(masks) if isinstance(mask, MaskFacts))


def grey(job: MaskJob, image: np.ndarray) -> Piece | None:
    """Return the mask of one class that a file of grey values shows, in the size of its photo.

    UserError: it is missing, damaged, a JPEG, or holds small numbers as masks of class ids do.
    """
    with opened_mask(job.source) as stored:
        values = np.asarray(stored.convert("L"))
    largest = int(values.max(initial=0))
    if 0 < largest < THRESHOLD:
        raise UserError(
            f"{job.source}: the object must have the value 255, the largest is {largest}; does it hold class ids?"
        )
    mask = values >= THRESHOLD
    return Piece(fitted(job, image, mask.astype(np.uint8))) if mask.any() else None


def fitted(job: MaskJob, image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return a mask (H, W) uint8 upright and in the size of its photo."""
    frame = header_of(job.photo)
    if mask.shape in (frame.size, image.shape[:2]):
        return fitted_mask(mask, False, frame, job.source)
    height, width = image.shape[:2]
    return cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST_EXACT)


def region(job: MaskJob, image: np.ndarray) -> Piece | None:
    """Return the union of shapes in a photo, or in the object that is cut out of it.

    ``job.source`` holds the shapes, in the photo's stored pixels, and left, top, right and bottom of the object; None
    keeps the whole photo. UserError: a shape does not fit the photo.
    """
    shapes, box = job.source
    frame = header_of(job.photo)
    photo = AnnotatedPhoto(str(job.photo), *frame.size, tuple(Instance(1, shape) for shape in shapes))
    mask = turned(class_mask(photo, {1: 1}), frame.orientation)
    pixels = None
    if box is not None:
        left, top, right, bottom = (max(side, 0) for side in box)
        mask = np.ascontiguousarray(mask[top:bottom, left:right])
        pixels = image[top:bottom, left:right]
    return Piece(mask, pixels) if mask.any() else None


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
    """Return the first file of the first of some names that occurs below a folder; UserError if none does."""
    for name in names:
        for path in paths_below(root, name):
            return path
    raise UserError(f"{root}: holds no {' or '.join(names)}; unpack the annotations there")


def read_pickle(path: Path) -> Any:
    """Return the content of a pickle file, whose code is not executed."""
    return RestrictedUnpickler(io.BytesIO(path.read_bytes())).load()


def coco_photo(root: Path, name: str) -> Path:
    """Return the path of a photo of COCO 2017 in the split that is stated, or in another one: LVIS's lie in both."""
    base = root / "coco" if (root / "coco").is_dir() else root
    stated = base / name
    places = [stated, *(base / split / stated.name for split in ("val2017", "train2017"))]
    return next((place for place in places if place.exists()), stated)


def plan_of(
    options: argparse.Namespace,
    jobs: Sequence[MaskJob],
    *,
    lists: dict[str, Any],
    rule: dict[str, Any],
    classes: int,
    read: Read = region,
    notes: Sequence[str] = (),
) -> Plan:
    """Return the plan of a data set whose annotations name its classes, with its configs.

    Args:
        options: the options of the command.
        jobs: the jobs of the plan.
        lists: ``classes``, and ``fold_classes`` where the folds are not interleaved, or ``class_photos``.
        rule: entries of the config's text: title, folds, query, supports, episodes; protocol and fold_rule if others.
        classes: the published number of classes.
        read: as ``Plan.read``.
        notes: lines to be printed.

    Raises:
        UserError: a list cannot hold the name of a file.
    """
    for job in jobs:
        line_of(job.name, job.class_id, job.photo_name)  # refuses names of files before anything is compared
    usual = {"fold_rule": "given" if "fold_classes" in lists else "interleaved", "protocol": "matcher"}
    values = usual | rule | {"name": options.what, "root": options.out}
    configs = {f"{options.what}.yaml": config_text(CONFIG, lists, values)}
    return Plan(jobs, read, lists["classes"], {"classes": classes}, notes, configs=configs)


def config_text(template: Path, lists: dict[str, Any], values: dict[str, Any]) -> str:
    """Return the text of a data set's config: a template with values in its braces, and with lists."""
    lines = yaml.safe_dump(lists, width=110, default_flow_style=None, sort_keys=False).splitlines()
    indented = "".join(f"  {line}\n" for line in lines)
    return template.read_text(encoding="utf-8").format(**values, lists=indented)


def draw_object(objects: Sequence[Any], class_id: int, photo: str) -> Any:
    """Return one of the objects of a class in a photo, drawn at random, the same in every preparation."""
    stream = random_stream(0, CHOICE, class_id, zlib.crc32(photo.encode()))
    return objects[int(stream.integers(len(objects)))]
