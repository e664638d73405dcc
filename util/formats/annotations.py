"""Annotated photos and found objects in one form each, whatever their format, and the masks that they describe."""

import os
import re
import sys
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple
from urllib.parse import unquote

import numpy as np
from pycocotools import mask as rle

from model.episode import IGNORE
from util.data.images.read import fitted_mask, header_of, upright_size
from util.data.lists.files import photos_below
from util.errors import UserError, nearest
from util.files import write_atomically
from util.formats.shapes import corners_of, decoded, has_area, polygons_of
from util.parallel import attempt

BACKGROUND = ("background", "_background_", "__background__")  # names in lower case
IGNORED = ("__ignore__", "_ignore_", "ignore", "void")
LOCAL_FILES = "?d="  # in Label Studio's address of a file on its own machine
UPLOADED = re.compile(r"^(.*[/\\])?[0-9a-f]{8}-")  # Label Studio puts these digits before the name of an uploaded file
CUT = 2  # pixels by which outlines may reach beyond a photo without a word

Say = Callable[[str], None]  # receives remarks on annotations
Shape = tuple[np.ndarray, ...] | dict[str, Any]


class Instance(NamedTuple):
    """One annotation."""

    category: int
    shape: Shape = ()  # polygons, each (2 x points,) float64; or a run-length encoding {"size", "counts"}
    box: tuple[float, ...] = ()  # x, y, width, height of an object without outline; also beside the shape of a box
    crowd: bool = False


class AnnotatedPhoto(NamedTuple):
    """A photo's size and its instances, in the file's order."""

    name: str  # of its file, as ``PhotoFiles`` finds it
    height: int
    width: int
    instances: tuple[Instance, ...]
    is_upright: bool = False  # the instances are of the upright photo, also where its size leaves that open


class PhotoFiles:
    """The photos of a folder and its sub-folders, in the order of their paths, and the one rule that finds them.

    Files state photos as programs write them: with the folders of another machine, backslashes, as an address with
    a query, or with what Label Studio puts before a name. Unless the user has named the folder (``is_named``), they
    may state any place from there. UserError: the folder does not exist.
    """

    def __init__(self, folder: Path, is_named: bool = True):
        if not folder.is_dir():
            raise UserError(f"{folder}: this folder of photos does not exist; check its name")
        self.folder, self.is_named = folder, is_named

    @cached_property
    def paths(self) -> list[Path]:
        return photos_below(self.folder)

    @cached_property
    def _by_name(self) -> dict[str, list[Path]]:
        out = defaultdict(list)
        for path in self.paths:
            for key in {name_key(path.name), name_key(path.stem)}:
                out[key].append(path)
        return out

    def find(self, stated: str, source: Path) -> Path:
        """Return the photo that a file states: the place, else the only one of its name, or the one in like folders.

        Case, and how accents are composed, count only among several. UserError: there is none, or there are several;
        it begins with the file that states it, ``source``.
        """
        for path in map(PureWindowsPath, spellings(stated)):
            place, within = self.folder / path.as_posix(), not (path.root or path.drive or ".." in path.parts)
            if (within or not self.is_named) and place.is_file():
                return place
            *folders, name = [*map(name_key, path.parts)] or [""]
            homes = (self.folder.joinpath(*path.parts[n:-1]) for n in range(len(folders) if within else 0))
            home, ranks = next((folder for folder in homes if folder.is_dir()), None), dict[Path, tuple]()
            for one in self._by_name.get(name, ()):
                if home not in (None, one.parent):
                    continue  # another photo of this name
                *own, last = map(name_key, one.relative_to(self.folder).parts)
                alike = [a == b for a, b in zip(own[::-1], folders[::-1])]
                ranks[one] = last == name, [*alike, False].index(False), len(own) == len(folders), one.name == path.name
            best = [one for one, rank in ranks.items() if rank == max(ranks.values())]
            if len(best) > 1:
                raise UserError(f"{source}: {len(best)} photos in {self.folder} are named '{best[0].name}'; rename one")
            if best:
                return best[0]
        there = {p.relative_to(self.folder).as_posix() if p.name == path.name else p.name for p in self.paths}
        lost = path.as_posix() if within else path.name
        missing = f"its photo '{lost}' is not in the folder of photos, {self.folder}"
        raise UserError(f"{source}: {missing}{nearest(lost, there)}")


def spellings(stated: str) -> list[str]:
    """Return what a stated photo may stand for: as it is written, as an address, and without Label Studio's prefix."""
    address = unquote(stated.partition(LOCAL_FILES)[2] or stated.partition("?")[0]).removeprefix("file://")
    return [*dict.fromkeys((stated, address, UPLOADED.sub(r"\1", stated), UPLOADED.sub(r"\1", address)))]


def name_key(name: str) -> str:
    """Return a file's name without case, and composed as other systems may not write it."""
    return unicodedata.normalize("NFC", name).casefold()


@dataclass(frozen=True)
class Annotations:
    """Annotated photos in the file's order, COCO's by ascending id, and category id -> name by ascending id."""

    photos: tuple[AnnotatedPhoto, ...]
    categories: dict[int, str]
    files: PhotoFiles  # the photos among which they are found
    source: Path  # the file or folder that was read
    left_out: Counter[str] = field(default_factory=Counter)  # what the reader did not understand, and how often

    @property
    def annotated(self) -> tuple[AnnotatedPhoto, ...]:
        """The photos that have at least one annotation."""
        return tuple(p for p in self.photos if p.instances)

    def path_of(self, photo: AnnotatedPhoto) -> Path:
        """Return the file of a photo; errors as ``PhotoFiles.find``."""
        return self.files.find(photo.name, self.source)


def understood(given: Annotations, say: Say | None = None) -> Annotations:
    """Return what has a meaning in annotations; lines say what has none, and what was decided.

    A box without outline is filled. Regions of ``IGNORED`` names are unknown for all classes of the photo, those of
    ``BACKGROUND`` are left out. Outlines beyond a turned photo's stated size tell that sizes are of its other form.
    ``say`` gets each line, default the error output. UserError: nothing has a meaning, or the outlines contradict each
    other in what they are of.
    """
    left, photos, boxes = Counter(given.left_out), list[AnnotatedPhoto](), 0
    for photo in given.photos:
        kept, unknown = list[Instance](), list[Instance]()
        for one in photo.instances:
            name, has_shape = given.categories[one.category], has_area(one.shape)
            if not has_shape and len(one.box) == 4 and min(one.box[2:]) > 0:
                x, y, width, height = one.box
                one, boxes = one._replace(shape=(corners_of(x, y, x + width, y + height),)), boxes + 1
            elif not has_shape:
                left["objects without outline or box"] += 1
                continue
            if name.casefold() in BACKGROUND:
                left[f"regions of {name}"] += 1
            else:
                (unknown if name.casefold() in IGNORED else kept).append(one)
        classes = dict.fromkeys(one.category for one in kept)
        beside = [one._replace(category=c, crowd=True) for one in unknown for c in classes]
        photos.append(photo._replace(instances=(*beside, *kept)))
    counts = ", ".join(f"{kind} ({count})" for kind, count in left.items())
    if left and not any(photo.instances for photo in photos):
        raise UserError(f"{given.source}: nothing in it marks an object: {counts}; outline the objects, or draw boxes")
    categories = {n: name for n, name in given.categories.items() if name.casefold() not in (*BACKGROUND, *IGNORED)}
    turned, beyond = _exchanged(replace(given, photos=tuple(photos), categories=categories))
    say = say or (lambda line: print(f"note: {line}", file=sys.stderr))
    for holds, line in (
        (left, f"left out: {counts}"),
        (boxes, f"{boxes} objects have no outline, but a box"),
        (beyond, f"outlines beyond the stated size of {len(beyond)} photos are cut, as of {''.join(beyond[:1])}"),
        (turned, "outlines reach beyond photos with an EXIF orientation: their height and width are exchanged"),
    ):
        if holds:
            say(f"{given.source}: {line}")
    return replace(given, photos=turned or tuple(photos), categories=categories)


def _exchanged(given: Annotations) -> tuple[tuple[AnnotatedPhoto, ...], list[str]]:
    """Return all photos, the turned ones with the other size if outlines tell so, else none; and those beyond it."""

    def fits(photo: AnnotatedPhoto) -> bool:
        shapes, size = [one.shape for one in photo.instances], (photo.height + CUT, photo.width + CUT)
        corners = [outline.reshape(-1, 2)[:, ::-1] for shape in shapes if isinstance(shape, tuple) for outline in shape]
        corners += [np.array([shape["size"]]) for shape in shapes if isinstance(shape, dict)]
        return not corners or bool((np.concatenate(corners).max(0) <= size).all())

    def exchanged(photo: AnnotatedPhoto) -> AnnotatedPhoto:
        header = attempt(lambda one: header_of(given.path_of(one)), photo)
        if isinstance(header, UserError) or header[1] < 5:  # upright, or upside down
            return photo
        height, width = photo.width, photo.height
        return photo._replace(height=height, width=width, is_upright=(height, width) == upright_size(*header))

    beyond = [photo for photo in given.photos if not fits(photo)]
    tell = next((photo for photo in beyond if fits(exchanged(photo))), None)
    if tell is None:
        return (), [photo.name for photo in beyond]
    form = exchanged(tell).is_upright  # of the others only those that state their size in the same way
    out = tuple(other if (other := exchanged(p)).is_upright == form else p for p in given.photos)
    for photo in out:
        if photo not in beyond and not fits(photo):
            sizes = f"{photo.name} is not {photo.width} x {photo.height}, {tell.name} not {tell.width} x {tell.height}"
            raise UserError(f"{given.source}: by the outlines {sizes}; export it anew, from upright photos")
    return out, [photo.name for photo in beyond if photo in out]


def class_mask(photo: AnnotatedPhoto, table: Mapping[int, int]) -> np.ndarray:
    """Return a photo's class indices, (H, W) uint8: 0 is background, 255 is crowd.

    First crowd regions are painted, then instances from the largest to the smallest by the pixels of their own masks:
    of two overlapping instances the smaller is on top, of two equal ones the later in the file. Polygons of fewer than
    three points, or of points on one line, cover nothing. ``table`` gives category id -> class id; annotations of
    other categories are ignored, including crowd regions.

    UserError: an annotation does not fit the photo; the message names the photo.
    """
    mask, regions = np.zeros((photo.height, photo.width), np.uint8), []
    for instance in photo.instances:
        if instance.category not in table:
            continue
        with in_words(f"{photo.name}: its annotation of category {instance.category} is damaged (", "); correct it"):
            region = _pixels(instance.shape, [photo.height, photo.width])
        if instance.crowd:
            mask[region] = IGNORE
        else:
            regions.append((int(region.sum()), table[instance.category], region))
    for _, class_id, region in sorted(regions, key=lambda r: r[0], reverse=True):
        mask[region] = class_id
    return mask


def label_of(photo: AnnotatedPhoto, path: Path, table: Mapping[int, int]) -> np.ndarray:
    """Return the class indices of a photo's file, upright, (H, W) uint8: as ``class_mask``.

    UserError: as ``class_mask``; the file, stored or upright, has another size than its annotations; or nothing tells
    which of both they are of.
    """
    (stored, orientation), stated = header_of(path), (photo.height, photo.width)
    if stated not in (stored, upright_size(stored, orientation)):  # painting at a stated size could take all memory
        raise UserError(f"{path}: image and annotations have different sizes (height, width): {stored} and {stated}")
    return fitted_mask(class_mask(photo, table), photo.is_upright, stored, orientation, path)


def _pixels(shape: Shape, size: list[int]) -> np.ndarray:
    """Return the pixels of an annotation, (H, W) bool."""
    if isinstance(shape, dict):
        if shape["size"] != size:
            raise ValueError(f"its size is {shape['size']}, the image's {size}")
        return decoded(shape)
    polygons = [polygon for polygon in shape if has_area((polygon,))]
    # rasterising takes a hundred bytes for each pixel along an outline; the comparison fails for NaN too
    if not all((np.abs(polygon) < 2**17).all() for polygon in polygons):
        raise ValueError("its outlines reach far beyond the photo")
    if not polygons:
        return np.zeros(size, bool)
    return rle.decode(rle.merge(rle.frPyObjects(polygons, *size))).view(bool)


class FoundObject(NamedTuple):
    """A class found on a photo, or one connected part of it."""

    name: str
    score: float  # mean probability over its pixels
    runs: dict[str, Any]  # its mask in COCO's text form {"size", "counts"}

    def polygons(self) -> list[np.ndarray]:
        """Return the simplified outlines of the connected parts, each (corners, 2) float64 of x and y."""
        return polygons_of(decoded(self.runs))


class FoundPhoto(NamedTuple):
    """A photo and the objects found on it."""

    path: Path
    name: str  # its path from the folder of all
    height: int  # upright
    width: int
    objects: tuple[FoundObject, ...]
    made: int  # the time of its result (ns), which is that of its files until they are corrected
    keep: bool = False  # whether corrected files stay

    def write(self, path: Path, text: str) -> None:
        """Write a file of the photo, unless it is to be kept."""
        if not (self.keep and path.is_file() and path.stat().st_mtime_ns > self.made):
            write_atomically(path, text)
            os.utime(path, ns=(self.made, self.made))


@dataclass(frozen=True)
class Found:
    """The results that a format is written from."""

    photos: Iterable[FoundPhoto]  # to be passed through once
    folder: Path  # of all photos
    categories: dict[int, str]  # all of them, id -> name by ascending id, whether found or not
    model: str = ""  # its name, for people
    polygons: bool = False  # write outlines in place of exact masks where a format has both


OF_NUMPY = re.compile("reshape|inhomogeneous|broadcast|ambiguous|unpack|zero-size|pickled")
KIND = "a value is of another kind than expected"


@contextmanager
def in_words(before: str, after: str = "", expected: str = KIND, kind: type[Exception] = UserError) -> Iterator[None]:
    """Turn an error of Python about the content of a file into one of a ``kind`` that says it in words.

    The line is ``before``, the reason, and ``after``; messages of Python and NumPy give way to what was ``expected``.
    """
    try:
        yield
    except KeyError as error:
        raise kind(f"{before}{error} is missing{after}") from None
    except (ValueError, RecursionError) as error:
        raise kind(f"{before}{expected if OF_NUMPY.search(str(error)) else error}{after}") from None
    except (TypeError, AttributeError, IndexError, OverflowError):
        raise kind(f"{before}{expected}{after}") from None
