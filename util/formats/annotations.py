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
from util.formats.remarks import (
    BACKGROUND,
    BEYOND,
    BOX,
    CROWD,
    EXCHANGED,
    IGNORED,
    LISTED_TWICE,
    LONE_CROWD,
    NO_SHAPE,
    OF_BACKGROUND,
    Remarks,
)
from util.formats.shapes import corners_of, decoded, has_area, polygons_of
from util.parallel import attempt

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
    crowd: bool = False  # whether COCO's ``iscrowd`` says that it is of many objects
    unknown: bool = False  # whether it says nothing of its pixels

    @property
    def is_object(self) -> bool:
        """Whether its pixels are of its category."""
        return not (self.crowd or self.unknown)


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
            if self._may_state(path) and (place := self.folder / path.as_posix()).is_file():
                return place
            ranked = [(self._rank(photo, path), photo) for photo in self._candidates(path)]
            best = [photo for rank, photo in ranked if rank == max(ranked)[0]]
            if len(best) > 1:
                raise UserError(f"{source}: {len(best)} photos in {self.folder} are named '{best[0].name}'; rename one")
            if best:
                return best[0]
        last = PureWindowsPath(spellings(stated)[-1])
        there = {p.relative_to(self.folder).as_posix() if p.name == last.name else p.name for p in self.paths}
        lost = last.as_posix() if _is_within(last) else last.name
        missing = f"its photo '{lost}' is not in the folder of photos, {self.folder}"
        raise UserError(f"{source}: {missing}{nearest(lost, there)}")

    def _may_state(self, path: PureWindowsPath) -> bool:
        """Return whether a stated path counts as a place from the folder: any does, unless the user has named that."""
        return _is_within(path) or not self.is_named

    def _candidates(self, path: PureWindowsPath) -> list[Path]:
        """Return the photos of a stated name; where a folder that is stated too exists, only those in it."""
        photos = self._by_name.get(name_key(path.name), [])
        folders = path.parts[:-1] if _is_within(path) else ()
        for number in range(len(folders)):
            home = self.folder.joinpath(*folders[number:])
            if home.is_dir():
                return [photo for photo in photos if photo.parent == home]
        return photos

    def _rank(self, photo: Path, path: PureWindowsPath) -> tuple[bool, int, bool, bool]:
        """Return how well a photo fits a stated path: by its suffix, its folders, their number, and its case."""
        *folders, name = map(name_key, photo.relative_to(self.folder).parts)
        *stated_folders, stated_name = map(name_key, path.parts)
        alike = 0
        for folder, stated in zip(reversed(folders), reversed(stated_folders)):
            if folder != stated:
                break
            alike += 1
        return name == stated_name, alike, len(folders) == len(stated_folders), photo.name == path.name


def _is_within(path: PureWindowsPath) -> bool:
    """Return whether a stated path leads nowhere but down."""
    return not (path.root or path.drive or ".." in path.parts)


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
    remarks: Remarks = field(default_factory=Remarks)  # of the reader, on what it read in another way or not at all

    @property
    def annotated(self) -> tuple[AnnotatedPhoto, ...]:
        """The photos that have at least one annotation."""
        return tuple(p for p in self.photos if p.instances)

    def path_of(self, photo: AnnotatedPhoto) -> Path:
        """Return the file of a photo; errors as ``PhotoFiles.find``."""
        return self.files.find(photo.name, self.source)


def understood(given: Annotations, say: Say | None = None) -> Annotations:
    """Return what has a meaning in annotations; lines say what has none, and what was decided (``remarks.py``).

    A box without outline is filled. Regions of ``IGNORED`` names are unknown for all classes of the photo, those of
    ``BACKGROUND`` are left out. Crowd regions are unknown, but objects where their category has no others in the file.
    Photos that are listed twice are joined. Outlines beyond a turned photo's stated size tell that sizes are of its
    other form. ``say`` gets each line, default the error output. UserError: nothing has a meaning, or the outlines
    contradict each other in what they are of.
    """
    remarks = given.remarks
    photos = [_with_meaning(photo, given.categories, remarks) for photo in _joined(given)]
    photos = _without_lone_crowds(photos, given.categories, remarks)
    lines = remarks.lines()
    if lines and not any(photo.instances for photo in photos):
        fix = "outline the objects, or draw boxes"
        raise UserError(f"{given.source}: nothing in it marks an object: {'; '.join(lines)}; {fix}")
    categories = {n: name for n, name in given.categories.items() if name.casefold() not in (*BACKGROUND, *IGNORED)}
    turned, beyond = _exchanged(replace(given, photos=tuple(photos), categories=categories))
    remarks.add(BEYOND, "".join(beyond[:1]), len(beyond))
    changed = [new.name for new, old in zip(turned, photos) if (new.height, new.width) != (old.height, old.width)]
    remarks.add(EXCHANGED, "".join(changed[:1]), len(changed))
    say = say or (lambda line: print(f"note: {line}", file=sys.stderr))
    for line in remarks.lines():
        say(f"{given.source}: {line}")
    return replace(given, photos=turned or tuple(photos), categories=categories)


def _joined(given: Annotations) -> list[AnnotatedPhoto]:
    """Return the photos, each once: the annotations of one that is listed twice are joined.

    UserError: both state other sizes.
    """
    same_name = Counter(name_key(PureWindowsPath(photo.name).name) for photo in given.photos)
    out: dict[str | Path, AnnotatedPhoto] = {}
    for number, photo in enumerate(given.photos):
        key: str | Path = f"{number}"
        if same_name[name_key(PureWindowsPath(photo.name).name)] > 1:
            path = attempt(given.path_of, photo)
            key = photo.name if isinstance(path, UserError) else path.resolve()
        first = out.setdefault(key, photo)
        if first is photo:
            continue
        if (first.height, first.width) != (photo.height, photo.width):
            sizes = f"{first.width} x {first.height} and as {photo.width} x {photo.height}"
            raise UserError(f"{given.source}: '{photo.name}' is listed as {sizes}; correct one")
        given.remarks.add(LISTED_TWICE, photo.name)
        out[key] = first._replace(instances=(*first.instances, *photo.instances))
    return [*out.values()]


def _with_meaning(photo: AnnotatedPhoto, categories: Mapping[int, str], remarks: Remarks) -> AnnotatedPhoto:
    """Return a photo with shapes for its boxes, with unknown regions for all of its classes, without background."""
    kept, unknown = list[Instance](), list[Instance]()
    for instance in photo.instances:
        name = categories[instance.category]
        if not has_area(instance.shape):
            if len(instance.box) != 4 or min(instance.box[2:]) <= 0:
                remarks.add(NO_SHAPE)
                continue
            x, y, width, height = instance.box
            instance = instance._replace(shape=(corners_of(x, y, x + width, y + height),))
            remarks.add(BOX)
        if name.casefold() in BACKGROUND:
            remarks.add(OF_BACKGROUND, name)
        elif name.casefold() in IGNORED:
            unknown.append(instance)
        else:
            kept.append(instance)
    classes = dict.fromkeys(instance.category for instance in kept)
    beside = [instance._replace(category=c, unknown=True) for instance in unknown for c in classes]
    return photo._replace(instances=(*beside, *kept))


def _without_lone_crowds(
    photos: list[AnnotatedPhoto], categories: Mapping[int, str], remarks: Remarks
) -> list[AnnotatedPhoto]:
    """Return the photos with crowds as objects where nothing else shows their category: brushes are exported so."""
    instances = [instance for photo in photos for instance in photo.instances]
    outlined = {instance.category for instance in instances if instance.is_object}
    crowds = Counter(instance.category for instance in instances if instance.crowd)
    for category, count in crowds.items():
        remarks.add(CROWD if category in outlined else LONE_CROWD, categories[category], count)
    if not {*crowds} - outlined:
        return photos
    out = []
    for photo in photos:
        read = [i._replace(crowd=i.crowd and i.category in outlined) for i in photo.instances]
        out.append(photo._replace(instances=tuple(read)))
    return out


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
    """Return a photo's class indices, (H, W) uint8: 0 is background, 255 is unknown.

    First crowd and unknown regions are painted, then instances from the largest to the smallest by the pixels of their
    own masks: of two overlapping instances the smaller is on top, of two equal ones the later in the file. Polygons of
    fewer than three points, or of points on one line, cover nothing. ``table`` gives category id -> class id; those of
    other categories are ignored, including crowd regions.

    UserError: an annotation does not fit the photo; the message names the photo.
    """
    mask, regions = np.zeros((photo.height, photo.width), np.uint8), []
    for instance in photo.instances:
        if instance.category not in table:
            continue
        with in_words(f"{photo.name}: its annotation of category {instance.category} is damaged (", "); correct it"):
            region = pixels_of(instance.shape, [photo.height, photo.width])
        if not instance.is_object:
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


def pixels_of(shape: Shape, size: list[int]) -> np.ndarray:
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
