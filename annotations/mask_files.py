"""Find the files that are masks, and the photo of each: the names of files and folders tell."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import NoReturn

from annotations.mask_names import photos_of_masks
from annotations.photo_files import REPLACED, PhotoFiles, is_same_file
from annotations.words import (
    BACKGROUND,
    FOLDER_WORDS,
    MASK_FOLDER_NAMES,
    PHOTO_FOLDER_NAMES,
    name_key,
    words_of,
)
from util.files.errors import UserError, note
from util.files.folders import files_below, visible
from util.files.photos import photos_below

LOSSLESS = (".tif", ".tiff", ".bmp", ".gif")  # suffixes of masks beside PNG
NAMED_MASK = "_mask"  # ends the stem of a mask beside its photo
NO_PHOTO = "left out: masks without a photo"


def folders_in(path: Path, photos: Path | None = None) -> tuple[Path, Path]:
    """Return the folders of photos and of masks that a folder stands for: two of usual names in it, else itself.

    With a folder of ``photos``, ``path`` is that of the masks, or of one of a usual name. If it has such a name itself
    and holds masks alone, the photos are in a folder of a usual name beside it.
    """
    folders = folders_of(path)
    photo_folder = photos or _first_named(folders, PHOTO_FOLDER_NAMES)
    mask_folder = _first_named(folders, MASK_FOLDER_NAMES)
    if photo_folder and mask_folder:
        return photo_folder, mask_folder
    suffixes = {file.suffix.lower() for file in visible(path.glob("*.*"), path)}
    if photos is None and _first_named([path], MASK_FOLDER_NAMES) and suffixes <= {".png", ".txt", *LOSSLESS}:
        photos = _first_named(folders_of(path.absolute().parent), PHOTO_FOLDER_NAMES)
    return photos or path, path


def _first_named(folders: Sequence[Path], kind: Sequence[str]) -> Path | None:
    """Return the folder with the first of some words as its name, also beside ``FOLDER_WORDS``; None: there is none."""
    candidates = product(kind, folders)
    named = (folder for word, folder in candidates if {word} == words_of(folder.name).difference(FOLDER_WORDS))
    return next(named, None)


def folders_of(path: Path) -> list[Path]:
    """Return the visible folders in a folder, in order."""
    return visible(filter(Path.is_dir, path.glob("*")), path)


def masks_in(folder: Path, photos: Path | None = None) -> list[Path]:
    """Return the PNGs of a folder: those that are named as masks of its other pictures, else all.

    Its other pictures are masks too where another folder of ``photos`` is given. Where it holds no PNG, the pictures of
    other formats that keep values.
    """
    pictures = photos_below(folder, recursive=False)
    pngs = [path for path in pictures if path.suffix.lower() == ".png"]
    named_after_photos = {f"{path.stem}{NAMED_MASK}" for path in pictures}
    has_photos = photos is None or folder.resolve().is_relative_to(photos.resolve())
    named = [path for path in pngs if has_photos and path.stem in named_after_photos]
    return named or pngs or [path for path in pictures if path.suffix.lower() in LOSSLESS]


def masks_below(folder: Path, photos: Path | None = None) -> list[Path]:
    """Return the masks in a folder; where it holds none, those in its sub-folders, but for folders of photos."""
    masks = masks_in(folder, photos)
    for place in [] if masks else sorted({file.parent for file in files_below(folder)}):
        if not any(is_named(name, PHOTO_FOLDER_NAMES) for name in place.relative_to(folder).parts):
            masks += masks_in(place, photos)
    return masks


def is_named(name: str, kind: Sequence[str]) -> bool:
    """Return whether one of some words is in a name."""
    return not words_of(name).isdisjoint(kind)


def class_folders(masks: Path) -> dict[str, list[Path]]:
    """Return the folders of each class in a folder, by its name, theirs; none if the folder itself holds masks."""
    classes = defaultdict[str, list[Path]](list)
    for folder in [] if masks_in(masks) else folders_of(masks):
        name = folder.name.strip()
        if name.lower() not in BACKGROUND and not is_named(name, PHOTO_FOLDER_NAMES) and masks_in(folder):
            classes[name].append(folder)
    return dict(classes)


def pairs(photos: Path, masks: Path, named: bool = True) -> list[tuple[Path, Path]]:
    """Return photos with their masks, in the order of the photos' paths; what has no partner is left out.

    Photo and mask have the same stem, or the mask ``NAMED_MASK`` too; of several photos it is the one in like folders.
    Lines say how many masks are left out, also of photos that were replaced since.

    Args:
        photos: a folder.
        masks: a folder.
        named: whether names say what masks hold; then their folders, as of parts or videos, say nothing of classes, and
            masks are those of ``masks_below``.

    Raises:
        UserError: a folder does not exist, no photo has a mask, or two photos or masks may be meant.
    """
    mask_files = masks_below(masks, photos) if named else masks_in(masks, photos)
    files = PhotoFiles(photos, without=mask_files)
    mask_of_photo: dict[Path, Path] = {}
    facts = photos_of_masks(masks)
    left_out = defaultdict[str, list[Path]](list)
    for mask in mask_files:
        stated = mask.relative_to(masks).parent
        stem = name_key(mask.stem)
        found = files.of_mask([stated / stem, stated / stem.removesuffix(NAMED_MASK)], masks)
        if found is None:
            left_out[NO_PHOTO].append(mask)
        elif mask.stem in facts and not is_same_file(facts[mask.stem], found):
            left_out[REPLACED].append(mask)
        elif found in mask_of_photo:
            raise UserError(f"{mask} and {mask_of_photo[found]} are both masks of {found}; rename one")
        else:
            mask_of_photo[found] = mask
    if not mask_of_photo and REPLACED not in left_out:
        _refuse_unpaired(photos, masks, mask_files)
    _say_left_out(left_out, photos, masks)
    return sorted(mask_of_photo.items())


def _say_left_out(left_out: dict[str, list[Path]], photos: Path, masks: Path) -> None:
    """Say how many masks are left out and why; in one folder with the photos every photo is a mask without one."""
    for what, files in left_out.items():
        if photos != masks or what != NO_PHOTO:
            note(f"{masks}: {what} ({len(files)}, such as {files[0].name})")


def _refuse_unpaired(photos: Path, masks: Path, mask_files: list[Path]) -> NoReturn:
    """Refuse (UserError) a folder without masks, or with none that has the name of a photo."""
    if not mask_files:
        raise UserError(
            f"{masks}: holds neither masks nor annotations that are read here",
            fix="give masks in folders a file of names, YOLO's labels a data.yaml or classes.txt; export other "
            "formats, such as XML of CVAT or VOC, as COCO",
        )
    raise UserError(
        f"{masks}: none of its {len(mask_files)} masks has the name of a photo in {photos}, such as "
        f"{mask_files[0].name}",
        fix="name masks like photos, photo.jpg: photo.png or photo_mask.png (no JPEG, which changes values), or name "
        "their folder (--photos)",
    )
