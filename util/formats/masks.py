"""Masks with the same stems as their photos, in the photos' folder or in one of their own, class names and colours."""

import re
import sys
from pathlib import Path
from typing import NamedTuple

from model.episode import IGNORE
from util.data.images.read import Colours
from util.data.lists.files import photos_below
from util.errors import UserError
from util.files import read_text, visible
from util.formats.annotations import PhotoFiles, name_key
from util.formats.remarks import BACKGROUND, IGNORED

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
LABEL_MAP = "labelmap.txt"  # CVAT's, with the colours of masks
LABEL_LINE = re.compile(r"[^#:][^:]*:(\s*\d+\s*,\s*\d+\s*,\s*\d+\s*)?(:[^:]*){0,2}$")
BLACK, VOID = (0, 0, 0), (224, 224, 192)  # colours of background and of PASCAL VOC's unknown pixels
PHOTO_FOLDERS = ("images", "photos", "jpegimages")  # in lower case
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationclassaug")


class MaskNames(NamedTuple):
    """The classes of the values in masks, by a file of names."""

    names: dict[int, str]  # value -> class name, "" of unknown values
    path: Path
    colours: Colours | None = None  # of masks in colours -> value, where the file has them

    @property
    def classes(self) -> dict[int, str]:
        """The values that are of a class, and its name."""
        return {value: name for value, name in self.names.items() if name}


def folders_in(path: Path, photos: Path | None = None) -> tuple[Path, Path]:
    """Return the folders of photos and of masks that a folder stands for: two of usual names in it, else itself.

    With a folder of ``photos``, ``path`` is that of the masks, or of one of a usual name.
    """
    entries = visible(path.iterdir(), path) if path.is_dir() else []
    inside = {entry.name.lower(): entry for entry in entries if entry.is_dir()}
    of_photos = [inside[name] for name in PHOTO_FOLDERS if name in inside]
    of_masks = [inside[name] for name in MASK_FOLDERS if name in inside]
    if not of_masks or not (of_photos or photos):
        return photos or path, path
    return photos or of_photos[0], of_masks[0]


def names_beside(masks: Path) -> MaskNames | None:
    """Return the names in the file of names in a folder of masks or beside it; None without one; errors as it."""
    places = (folder / name for folder in (masks, masks.parent) for name in (LABEL_MAP, *NAME_FILES))
    return next((read_names(place) for place in places if place.is_file()), None)


def masks_in(folder: Path) -> list[Path]:
    """Return the PNGs of a folder; where it holds none, the pictures of other formats that keep values."""
    found = photos_below(folder, recursive=False)
    pngs = [path for path in found if path.suffix.lower() == ".png"]
    return pngs or [path for path in found if path.suffix.lower() in (".tif", ".tiff", ".bmp", ".gif")]


def class_folders(masks: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of photos and of masks of each class, by its name, the folder's; none if it holds masks."""
    if not masks.is_dir() or masks_in(masks):
        return {}
    inside = [path for path in visible(masks.iterdir(), masks) if path.is_dir()]
    found = {path.name: folders_in(path) for path in inside if path.name.lower() not in BACKGROUND}
    return {name: folders for name, folders in found.items() if masks_in(folders[1])}


def pairs(photos: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return photos with their masks, in the order of the photos' paths; what has no partner is left out.

    A line says how many masks that are. UserError: a folder does not exist, no photo has a mask, or two photos have the
    same stem.
    """
    named = {name_key(path.stem): path for path in (masks_in(masks) if masks.is_dir() else ())}
    out, there = dict[str, tuple[Path, Path]](), {*named.values()}
    for photo in PhotoFiles(photos).paths:
        mask = named.get(key := name_key(photo.stem))
        if mask is None or photo in there:
            continue
        if key in out:
            raise UserError(f"{photo} and {out[key][0]} have the same name; rename one")
        out[key] = (photo, mask)
    if not out and (brushed := [m.name for key, m in named.items() if re.match(r"task-\d+-annotation-\d+-by-", key)]):
        fix = f"export JSON; or name each with its photo, photo.jpg:{brushed[0]}, where --supports takes a mask"
        raise UserError(f"{masks}: Label Studio's BRUSH_TO_PNG does not say which photos these are of; {fix}")
    if not out:
        fix = "name masks like photos, photo.jpg: photo.png (no JPEG, which changes values)"
        raise UserError(f"{masks}: does not exist, or holds no mask of a photo in {photos}; {fix}")
    if photos != masks and (lost := [mask for key, mask in named.items() if key not in out]):
        print(f"note: {masks}: left out, without a photo: {len(lost)} masks, such as {lost[0].name}", file=sys.stderr)
    return list(out.values())


def read_names(path: Path) -> MaskNames:
    """Return the names in a file, one per line from value 1 on, or in a label map as CVAT writes it.

    First lines of ``IGNORED``, then of ``BACKGROUND``, do not count: labelme's -1 and 0, which masks hold as 255 and 0.
    UserError: the file cannot be read, or names a class twice.
    """
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    lines = [line.strip() for line in lines if line.strip()]
    entries = [line for line in lines if not line.startswith("#")]
    if entries and all(LABEL_LINE.match(line) for line in entries):
        return _read_label_map(entries, path)
    for kinds in (IGNORED, BACKGROUND):
        lines = lines[1:] if lines and lines[0].casefold() in kinds else lines
    check_unique(lines, path)
    return MaskNames({value: _known(name) for value, name in enumerate(lines, 1)}, path)


def _read_label_map(lines: list[str], path: Path) -> MaskNames:
    """Return the names and colours in lines ``name:red,green,blue:parts:actions``; a colour may lack.

    Background and black are 0, wherever they stand, and the others count from 1, as in masks that CVAT writes with
    numbers. UserError: a name or a colour occurs twice.
    """
    entries = [line.split(":")[:2] for line in lines]
    named = [(name, colour) for name, colour in entries if name.casefold() not in BACKGROUND]
    check_unique([name for name, _ in named], path)
    names = {value: _known(name) for value, (name, _) in enumerate(named, 1)}
    values = {name: value if names[value] else IGNORE for value, (name, _) in enumerate(named, 1)}
    colours: dict[tuple[int, ...], int] = {BLACK: 0, VOID: IGNORE}
    for name, text in entries:
        if not text.strip():
            continue
        red, green, blue = (int(part) for part in text.split(","))
        value = values.get(name, 0)
        if (red, green, blue) in colours and colours[red, green, blue] not in (value, IGNORE):
            raise UserError(f"{path}: '{name}' has the colour {text} of another class, or of the background; change it")
        colours[red, green, blue] = value
    return MaskNames(names, path, colours)


def _known(name: str) -> str:
    """Return the name of a class, "" of what is unknown."""
    return "" if name.casefold() in IGNORED else name


def read_class_names(path: Path) -> dict[int, str]:
    """Return value -> class name of a file, "" of unknown values; as ``read_names``."""
    return read_names(path).names


def check_unique(names: list[str], path: Path) -> None:
    """Refuse (UserError) class names that occur twice or have control characters."""
    for number, name in enumerate(names):
        if name in names[:number] or not name.isprintable():
            raise UserError(f"{path}: {name!r} is not a name, or is that of two classes; rename one")
