"""Masks as PNGs with the same stems as their photos, in the folder of the photos or in one of their own."""

from pathlib import Path

from util.errors import UserError
from util.files import read_text
from util.formats.annotations import PhotoFiles

NAME_FILES = ("names.txt", "classes.txt", "labels.txt")  # one class per line, the first is value 1
PHOTO_FOLDERS = ("images", "photos", "jpegimages")  # in lower case
MASK_FOLDERS = ("masks", "segmentationclass", "segmentationclassaug")


def folders_in(path: Path, photos: Path | None = None) -> tuple[Path, Path]:
    """Return the folders of photos and of masks that a folder stands for: two of usual names in it, else itself.

    Args:
        photos: the folder of photos; then ``path`` is that of the masks.
    """
    inside = {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir()}
    of_photos = [inside[name] for name in PHOTO_FOLDERS if name in inside]
    of_masks = [inside[name] for name in MASK_FOLDERS if name in inside]
    return (of_photos[0], of_masks[0]) if of_photos and of_masks and photos is None else (photos or path, path)


def class_folders(masks: Path) -> dict[str, tuple[Path, Path]]:
    """Return the folders of photos and of masks of each class, by its name, the folder's; none if it holds masks."""
    if not masks.is_dir() or any(masks.glob("*.png")):
        return {}
    found = {path.name: folders_in(path) for path in sorted(masks.iterdir()) if path.is_dir()}
    return {name: folders for name, folders in found.items() if any(folders[1].glob("*.png"))}


def pairs(photos: Path, masks: Path) -> list[tuple[Path, Path]]:
    """Return photos with their masks, in the order of the photos' paths; photos without a mask are left out.

    Raises:
        UserError: a folder does not exist, no photo has a mask, or two photos have the same stem.
    """
    named = {path.name for path in masks.iterdir()} if masks.is_dir() else set()
    out: dict[str, tuple[Path, Path]] = {}
    for photo in PhotoFiles(photos).paths:
        name = f"{photo.stem}.png"
        if name not in named or photo == masks / name:
            continue
        if name in out:
            raise UserError(f"{photo} and {out[name][0]} have the same name; rename one")
        out[name] = (photo, masks / name)
    if not out:
        raise UserError(
            f"{masks}: does not exist, or holds no mask of a photo in {photos}; name masks like photos, photo.jpg: "
            "photo.png"
        )
    return list(out.values())


def names_beside(masks: Path) -> list[str] | None:
    """Return the class names in a file beside or above masks, None if there is none; errors as ``read_class_names``."""
    files = [folder / name for folder in (masks, masks.parent) for name in NAME_FILES if (folder / name).is_file()]
    return read_class_names(files[0]) if files else None


def read_class_names(path: Path) -> list[str]:
    """Return the class names of a file, one per line; a first line 'background' is ignored.

    Raises:
        UserError: the file cannot be read, or names a class twice.
    """
    lines = read_text(path, "the class names", "write one name per line").splitlines()
    names = [line.strip() for line in lines if line.strip()]
    names = names[1:] if names and names[0].lower() == "background" else names
    check_unique(names, path)
    return names


def check_unique(names: list[str], path: Path) -> None:
    """Refuse (UserError) class names that occur twice or have control characters."""
    for number, name in enumerate(names):
        if name in names[:number] or not name.isprintable():
            raise UserError(f"{path}: {name!r} is not a name, or is that of two classes; rename one")
