"""The plan of photos with masks: of class ids, of colours with a label map, or a folder of masks for each class."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from annotations.mask_files import class_folders, folders_in, folders_of, masks_in, pairs
from annotations.mask_formats import read_mask_of
from annotations.mask_names import VALUES, MaskNames, check_names, names_beside, names_in
from annotations.mask_set import MaskFacts, check_set, facts_of_all, masks_of_255, photos_with
from annotations.photo_files import PhotoFiles
from annotations.pictures import header_of
from annotations.region import read_region
from annotations.words import is_of_set, is_unknown, name_key
from datasets.custom_plan import ALL, CustomOptions, plan_of, rare_classes, selected_classes, word
from datasets.recipes.recipe import MaskJob, Piece, Plan, by_name, labels
from model.episode import IGNORE
from util.files.digests import content_digest
from util.files.errors import UserError, one_line
from util.files.mask_images import fitted_mask
from util.files.parallel import parallel_map, result_or_error

CLASSES_OPTION = "--classes cat,dog, or names.txt with a class per line, the first is id 1"


def from_masks(options: CustomOptions) -> Plan:
    """Return the plan of photos and their masks: PNGs of class indices with the same stem, or a folder for each class.

    Masks in colours need a label map. UserError: there are no photos, none has a mask, two have one name, or nothing
    tells the classes of masks: those of 0 and 255 need a single class, and the option that 255 is the object.
    """
    if not options.masks.is_dir():
        raise UserError(f"--masks {options.masks}: this folder does not exist; check its name")
    _, mask_folder = folders_in(options.masks, options.images)
    folders = class_folders(mask_folder)
    known = _names_of(options, mask_folder)
    if known is None and (not folders or any(map(is_of_set, folders))):
        raise UserError(_needs_names(mask_folder))
    if known is None or not folders.keys().isdisjoint(known.classes.values()):
        return _from_class_folders(options, folders)
    photo_folder, _ = folders_in(options.images)
    masks = dict(pairs(photo_folder, mask_folder))
    used = {*masks, *masks.values()}
    _print_unused("mask", [path for path in PhotoFiles(photo_folder).paths if path not in used])
    return _from_class_ids(options, masks, known)


def _from_class_ids(options: CustomOptions, masks: dict[Path, Path], known: MaskNames) -> Plan:
    """Return the plan of photos with a mask of class ids each, or of 0 and 255 where there is one class."""
    names = [*known.classes.values()]
    read = facts_of_all([*masks.values()], known.colours)
    facts = [mask for mask in read if isinstance(mask, MaskFacts)]  # jobs name the others
    counts = photos_with(facts)
    if facts and not counts:
        return _from_white_masks(options, masks, names)
    check_set(facts, known)
    if white := masks_of_255(facts):
        _confirm_white_among_ids(options, white, names)
    absent = [name for value, name in known.classes.items() if facts and not counts[value]]
    photo_counts = {name: counts[value] for value, name in known.classes.items() if counts[value]}
    unused = [*absent, *rare_classes(options, photo_counts)]
    classes = [name for name in names if name not in unused]
    read_mask = partial(_class_indices, known=known, unused=unused, white=white)
    return plan_of(masks.items(), read_mask, classes, options.images)


def _needs_names(masks: Path) -> str:
    """Return the refusal of masks without names of their classes."""
    listed = names_beside(masks)
    names = f"--classes {listed.path}" if listed else CLASSES_OPTION
    if parts := [folder.name for folder in folders_of(masks) if is_of_set(folder.name)]:
        fix = "or put all masks of a class into <class>/photo.png"
        return f"--masks {masks}: the folders {', '.join(parts)} are parts of a set, no classes; add {names}, {fix}"
    fix = "or a folder of masks for each class, <class>/photo.png"
    return f"prepare.py custom: --masks needs {names}; {fix}"


def _from_white_masks(options: CustomOptions, masks: dict[Path, Path], classes: list[str]) -> Plan:
    """Return the plan of masks of 0 and 255; UserError: there are several classes, or 255 may not be the object."""
    if len(classes) > 1:
        fix = "put those of each class into a folder of its own, <class>/photo.png"
        raise UserError(f"{options.masks}: masks of 0 and 255 do not tell {len(classes)} classes apart; {fix}")
    if not options.white_is_object:
        fix = "confirm with --white-is-object that 255 is the object, or give its pixels the value 1"
        raise UserError(f"{options.masks}: the masks hold 0 and 255 alone; {fix}")
    return plan_of(masks.items(), one_class, classes, options.images)


def _names_of(options: CustomOptions, mask_folder: Path) -> MaskNames | None:
    """Return the names in ``--classes``, else those in a label map or Roboflow's file with the masks; None without."""
    if options.classes is not None:
        return names_in(options.classes)
    known = names_beside(mask_folder)
    return known if known and (known.colours is not None or known.path.name == VALUES) else None


def _confirm_white_among_ids(options: CustomOptions, white: Sequence[Path], classes: list[str]) -> None:
    """Refuse (UserError) masks of 0 and 255 beside masks of class ids, unless 255 is the object of the one class."""
    if len(classes) == 1 and options.white_is_object:
        return
    problem = f"{len(white)} mask(s), such as {white[0].name}, hold only 255, which means unknown in the others"
    fix = "give those pixels the value of their class, or take these masks out"
    if len(classes) == 1:
        fix = "confirm with --white-is-object that 255 is the object there, or take these masks out"
    raise UserError(f"{options.masks}: {problem}; {fix}")


def _class_indices(
    job: MaskJob, image: np.ndarray, known: MaskNames, unused: Sequence[str] = (), white: Collection[Path] = ()
) -> Piece | None:
    """Return a mask of class ids, anew where it has unknown values, or shows classes by colours or opacity.

    Pixels of ``unused`` classes are background; in masks of ``white`` 255 is the object. UserError: as ``labels`` and
    ``one_class``; or a value or a colour has no name.
    """
    values = result_or_error(partial(read_mask_of, job.photo, colours=known.colours), job.source)
    counts_from_1 = [*known.classes] == [*range(1, len(known.names) + 1)]
    has_one_class = len(known.names) == 1 and known.colours is None
    if job.source in white or (isinstance(values, UserError) and has_one_class):
        return one_class(job, image)
    if counts_from_1 and not unused and known.colours is None:
        return labels(job, image, len(known.names))
    if isinstance(values, UserError):
        raise values
    return Piece(_renumbered(values, job.source, known, unused))


def _renumbered(values: np.ndarray, source: Path, known: MaskNames, unused: Sequence[str]) -> np.ndarray:
    """Return a mask (H, W) uint8 whose class ids count without ``unused`` classes; UserError: a value has no name."""
    unnamed = {*np.unique(values).tolist()} - {0, IGNORE, *known.names}
    if unnamed:
        raise UserError(f"{source}: holds the value {min(unnamed)}, which has no name in the file of names")
    used = [name for name in known.classes.values() if name not in unused]
    table = np.full(IGNORE + 1, IGNORE, np.uint8)
    table[0] = 0
    for value, name in known.classes.items():
        table[value] = used.index(name) + 1 if name in used else 0
    return table[values]


def _from_class_folders(options: CustomOptions, folders: dict[str, list[Path]]) -> Plan:
    """Return the plan of masks in a folder for each class; their photos lie in such folders too, or all in one.

    Equal files are one photo, which has several classes. UserError: a class has no folder, no mask has
    a photo, or one photo has two masks of a class.
    """
    classes = _classes_in_folders(options, folders)
    masks: dict[Path, str] = {}
    for name in classes:
        for folder in folders[name]:
            masks |= dict.fromkeys(masks_in(folder), name)
    rare = rare_classes(options, Counter(masks.values()))
    classes = [name for name in classes if name not in rare]
    masks = {mask: name for mask, name in masks.items() if name not in rare}
    photo_of_mask = _photos_of_masks(masks, options)
    jobs = _class_jobs(photo_of_mask, masks, classes, options.images)
    by_name((job.photo_name, job.photo) for job in jobs)  # refuses equal names, and two masks of a photo's class
    by_name((f"{classes[job.class_id - 1]} of {job.photo_name}", job.source) for job in jobs)
    return Plan(jobs, one_class, classes, parts=(ALL,), suffix="")


def _classes_in_folders(options: CustomOptions, folders: dict[str, list[Path]]) -> list[str]:
    """Return the classes that folders name, or those of ``--classes``; UserError: one has no folder."""
    classes = [name for name in folders if not is_unknown(name)]
    if len(classes) < len(folders):
        unknown = ", ".join(name for name in folders if is_unknown(name))
        print(one_line(f"left out, folders of unknown pixels: {unknown}"))
    if options.classes:
        classes = selected_classes(options.classes, folders, f"folder of {options.masks}")
    check_names(classes, options.masks)
    return classes


def _photos_of_masks(masks: Mapping[Path, str], options: CustomOptions) -> dict[Path, Path]:
    """Return the photo of each mask that has one; lines say how many have no partner. UserError: none has a photo."""
    paths = [path for path in PhotoFiles(options.images).paths if path not in masks]
    photos = {(path.parent, name_key(path.stem)): path for path in paths}
    photo_of_mask = {}
    for mask in masks:
        places = [(place, name_key(mask.stem)) for place in (options.images / mask.parent.name, options.images)]
        found = [photos[place] for place in places if place in photos]
        if found:
            photo_of_mask[mask] = found[0]
    if not photo_of_mask:
        raise UserError(
            f"{options.masks}: no mask has a photo in {options.images}",
            fix=f"name photos like masks: {min(masks).stem}.jpg, there or in a folder of the class",
        )
    _print_unused("mask", {*photos.values()} - {*photo_of_mask.values()})
    _print_unused("photo", masks.keys() - photo_of_mask.keys())
    return photo_of_mask


def _class_jobs(
    photo_of_mask: Mapping[Path, Path], class_of_mask: Mapping[Path, str], classes: list[str], images: Path
) -> list[MaskJob]:
    """Return the jobs of masks of one class; equal files are the first of them."""
    first_of_photo = _first_of_equal([*dict.fromkeys(photo_of_mask.values())])
    jobs = []
    for mask, photo in photo_of_mask.items():
        first = first_of_photo[photo]
        class_name = class_of_mask[mask]
        mask_name = word(f"{class_name}/{mask.stem}")
        photo_name = word(str(first.relative_to(images)))
        jobs.append(MaskJob(first, mask, mask_name, classes.index(class_name) + 1, photo_name, parts=(ALL,)))
    return jobs


def _first_of_equal(photos: Sequence[Path]) -> dict[Path, Path]:
    """Return for each photo the first that is an equal file; one that cannot be read is its own, and reported later."""
    digests = parallel_map(partial(result_or_error, content_digest), photos, "photos")
    first_of_content: dict[bytes | UserError, Path] = {}  # each error is a content of its own
    return {photo: first_of_content.setdefault(digest, photo) for photo, digest in zip(photos, digests)}


def _print_unused(lacking: str, files: Collection[Path]) -> None:
    """Print how many files have no mask or no photo, ``lacking``, if any."""
    if files:
        print(one_line(f"left out, without a {lacking}: {len(files)} files, such as {min(files)}"))


def one_class(job: MaskJob, image: np.ndarray) -> Piece | None:
    """Return a mask of one class; raises as ``read_region`` and ``fitted_mask`` do."""
    label, is_upright = read_region(job.source)
    frame = header_of(job.photo)
    if label.shape not in (frame.size, image.shape[:2]):
        raise UserError(
            f"{job.source}: is {label.shape} (height, width), its photo {image.shape[:2]}",
            fix="export it in the photo's size",
        )
    if not (label == 1).any():
        return None
    return Piece(fitted_mask(label, is_upright, frame, job.source))
