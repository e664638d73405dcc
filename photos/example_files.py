"""Read files and folders of annotations as examples: all annotated photos of each class, or the first of them."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from annotations import mask_files, mask_names, recognise
from annotations.annotation import Annotations
from annotations.mask_set import MaskFacts, check_set, facts_of_all
from annotations.region import classes_in, read_region_of
from photos import persons
from photos.examples import UNNAMED, Example, check_class_name
from util.files.errors import UserError, check_known, note
from util.files.palette import IGNORE

UPLOADS = "photos"  # folder beside persons' masks of what a browser has sent to the page
MAX_SHOTS = 100  # examples of a class in a file; more take too much memory and are hardly meant


def read_examples(
    texts: Sequence[str],
    photos: Path | None = None,
    *,
    classes: Sequence[str] = (),
    shots: int | None = None,
    unconfirmed: bool = True,
    absences: bool = False,
) -> tuple[list[Example], dict[int, str]]:
    """Return the examples of all classes in files or folders, and the categories of the first, id -> name.

    Args:
        texts: ``[format:]path``; see ``annotations/recognise.py``.
        photos: the folder of the photos, where it is not that of the annotations.
        classes: the classes to take; () for all.
        shots: the photos to take of each class of a file, the first ones; None for all.
        unconfirmed: take masks by a network, too, as a result says ``by`` whom each is.
        absences: take also, without a pixel of the object, that a result says that nothing of a class is on a photo.

    UserError: a file is unreadable or in no known format, a class is missing, or a class has too many photos.
    """
    examples: list[Example] = []
    categories: list[dict[int, str]] = []
    for text in texts:
        kind, path = recognise.recognise(text)
        if kind == recognise.MASKS:
            on_masks, names = _of_masks(path, photos, classes, shots)
            examples += _select(on_masks, names, path, classes=classes, shots=shots)
        else:
            annotations = recognise.read(text, photos, unconfirmed)
            names = annotations.categories
            for example in _select(_of_annotations(annotations, absences), names, path, classes=classes, shots=shots):
                assert example.annotated is not None
                examples.append(replace(example, photo=annotations.path_of(example.annotated)))
        categories.append(names)
    if texts:
        _check_classes(examples, categories, classes, " and ".join(texts))
    return examples, categories[0] if categories else {}


def _of_masks(
    path: Path, photos: Path | None, classes: Sequence[str], shots: int | None
) -> tuple[list[Example], dict[int, str]]:
    """Return the examples in a folder of masks, all that are needed, and its classes, value -> name.

    Masks of a class without a name are of the one in ``classes``, if that is one.
    A line says which masks are left out: those without a photo.
    """
    if path.name == persons.FOLDER and path.with_name(UPLOADS).is_dir():
        photos = photos or path.with_name(UPLOADS)
    photo_folder, mask_folder = mask_files.folders_in(path, photos)
    known = mask_names.names_beside(mask_folder)
    pairs = mask_files.pairs(photo_folder, mask_folder, named=known is not None)
    if known is None:
        name = classes[0] if len(classes) == 1 else None
        if not classes:
            note(f"{mask_folder}: the class is '{UNNAMED}'; --classes NAME names it")
        return list(islice(_unnamed_masks(pairs, name), shots)), {1: name} if name else {}
    return list(_named_masks(pairs, known)), known.classes


def _named_masks(pairs: list[tuple[Path, Path]], known: mask_names.MaskNames) -> Iterator[Example]:
    """Yield an example of every value in every mask; of one class, also where a mask shows it without class ids.

    UserError: as ``check_set``; a value or a colour has no name, or 255 is all that a mask marks.
    """
    read = facts_of_all([mask for _, mask in pairs], known.colours)
    facts = [mask for mask in read if isinstance(mask, MaskFacts)]
    check_set(facts, known)
    _refuse_255(facts, known)
    for (photo, mask), of_mask in zip(pairs, read, strict=True):
        if isinstance(of_mask, UserError):
            if len(known.names) > 1 or known.colours is not None:
                raise of_mask
            yield from _unnamed_masks([(photo, mask)], *known.classes.values())
            continue
        for value in sorted(of_mask.values - {0, IGNORE}):
            if value not in known.names:
                raise UserError(f"{mask}: holds the value {value}, but {known.path} has {len(known.names)} classes")
            if name := known.classes.get(value):
                yield Example(
                    name,
                    photo,
                    str(mask),
                    mask_value=value,
                    unknown=tuple(known.unknown),
                    colours=known.colours,
                )


def _refuse_255(facts: Sequence[MaskFacts], known: mask_names.MaskNames) -> None:
    """Refuse (UserError) masks in which 255 is all that is marked."""
    white = [mask.path.name for mask in facts if mask.marks_255_alone]
    if white:
        raise UserError(
            f"{known.path}: {len(white)} mask(s), such as {white[0]}, hold only 255, "
            "which means unknown beside class ids",
            fix="give those pixels the value of their class, or take these masks out, or the list: without it 255 is "
            "the object, which --classes NAME names",
        )


def _unnamed_masks(pairs: list[tuple[Path, Path]], name: str | None = None) -> Iterator[Example]:
    """Yield every mask that marks something; UserError: they seem to hold several classes."""
    values: set[Any] = set()
    for photo, mask in pairs:
        values |= classes_in(mask)
        _check_one_class(values, mask)
        if 1 in read_region_of(photo, mask):
            yield Example(name, photo, str(mask))


def _check_one_class(values: set[Any], mask: Path) -> None:
    """Refuse (UserError) masks up to this one whose values, as of ``classes_in``, tell several classes apart."""
    colours = {value for value in values if isinstance(value, tuple)}
    several = max(colours, values - colours, key=len)
    if len(several) > 1:
        raise UserError(
            f"{mask}: this mask and those before hold several classes, {sorted(several)[:5]}",
            fix=f"name the classes in {mask_names.NAME_FILES[0]} beside the masks, one per line, "
            f"or those of colours in {mask_names.LABEL_MAP}",
        )


def _of_annotations(annotations: Annotations, absences: bool) -> Iterator[Example]:
    """Yield an example of every class on every photo of a file of annotations; the photos are not found yet."""
    for photo in annotations.photos:
        shown = [instance.category for instance in photo.instances if not instance.unknown]
        lacking = annotations.categories.keys() & photo.known if absences and photo.known else ()
        for category in dict.fromkeys([*shown, *sorted(lacking)]):
            instances = tuple(instance for instance in photo.instances if instance.category == category)
            yield Example(
                annotations.categories[category],
                Path(photo.name),
                str(annotations.source),
                annotated=photo._replace(instances=instances),
            )


def _select(
    candidates: Iterable[Example],
    names: dict[int, str],
    path: Path,
    *,
    classes: Sequence[str],
    shots: int | None,
) -> list[Example]:
    """Return the first photos of each class, in the order of the names; raises as ``_check_class`` does."""
    by_name: dict[str | None, list[Example]] = {name: [] for name in names.values()} or {None: []}
    for example in candidates:
        by_name[example.name].append(example)
    selected: list[Example] = []
    for name, photos in by_name.items():
        if photos and (not classes or name in classes):
            shown = [example for example in photos if example.annotated is None or example.annotated.instances]
            _check_class(name, len(shown), path, shots)
            selected += photos[:shots]
    return selected


def _check_class(name: str | None, photos: int, path: Path, shots: int | None) -> None:
    """Refuse (UserError) a class of more photos than can be used, or of a name as ``check_class_name``."""
    if name:
        check_class_name(name, f"{path}: the class")
    if shots is None and photos > MAX_SHOTS:
        raise UserError(
            f"{path}: {photos} photos show {name or 'the object'}",
            fix=f"take some of them with --max-shots N, at most {MAX_SHOTS}, and some classes with --classes",
        )


def _check_classes(
    examples: Sequence[Example], categories: Sequence[dict[int, str]], classes: Sequence[str], source: str
) -> None:
    """Refuse (UserError) classes that no file knows, and files that show none."""
    declared = {name for names in categories for name in names.values()}
    if classes and not declared:
        raise UserError(f"--classes: {source} shows one class without a name; give one, or write names.txt beside it")
    for name in classes:
        check_known(name, declared, f"--classes: '{name}' is not a class of {source}")
    if not examples:
        raise UserError(f"{source}: no photo shows one of the classes; annotate the object")
