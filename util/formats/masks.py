"""Masks with the same stems as their photos, in the folder of the photos or in one of their own, and class names."""

import re
import sys
from pathlib import Path

from util.data.lists.files import photos_below
from util.errors import UserError
from util.files import read_text, visible
from util.formats.annotations import BACKGROUND, IGNORED, PhotoFiles, name_key

NAME_FILES = ("names.txt", "classes.txt", "labels.txt", "class_names.txt")  # one class per line, the first is value 1
PHOTO_FOLDERS = ("images", "photos", "jpegimages")  # in lower case
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationclassaug")


def folders_in(path: Path, photos: Path | None = None) -> tuple[Path, Path]:
    """Return the folders of photos and of masks that a folder stands for: two of usual names in it, else itself.

    With a folder of ``photos``, ``path`` is that of the masks.
    """
    inside = {p.name.lower(): p for p in visible(path.iterdir(), path) if p.is_dir()}
    of_photos = [inside[name] for name in PHOTO_FOLDERS if name in inside]
    of_masks = [inside[name] for name in MASK_FOLDERS if name in inside]
    return (of_photos[0], of_masks[0]) if of_photos and of_masks and photos is None else (photos or path, path)


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
        mend = f"export JSON; or name each with its photo, photo.jpg:{brushed[0]}, where --supports takes a mask"
        raise UserError(f"{masks}: Label Studio's BRUSH_TO_PNG does not say which photos these are of; {mend}")
    if not out:
        mend = "name masks like photos, photo.jpg: photo.png (no JPEG, which changes values)"
        raise UserError(f"{masks}: does not exist, or holds no mask of a photo in {photos}; {mend}")
    if photos != masks and (lost := [mask for key, mask in named.items() if key not in out]):
        print(f"note: {masks}: left out, without a photo: {len(lost)} masks, such as {lost[0].name}", file=sys.stderr)
    return list(out.values())


def read_class_names(path: Path) -> dict[int, str]:
    """Return value -> class name of a file, one per line from 1 on; "" of unknown values, whose names are ``IGNORED``.

    First lines of ``IGNORED``, then of ``BACKGROUND``, do not count: labelme's -1 and 0, which masks hold as 255 and 0.
    UserError: the file cannot be read, or names a class twice.
    """
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    for kinds in (IGNORED, BACKGROUND):
        names = names[1:] if names and names[0].casefold() in kinds else names
    check_unique(names, path)
    return {value: "" if name.casefold() in IGNORED else name for value, name in enumerate(names, 1)}


def check_unique(names: list[str], path: Path) -> None:
    """Refuse (UserError) class names that occur twice or have control characters."""
    for number, name in enumerate(names):
        if name in names[:number] or not name.isprintable():
            raise UserError(f"{path}: {name!r} is not a name, or is that of two classes; rename one")
