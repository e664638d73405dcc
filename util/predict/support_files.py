"""Supports from files and folders of annotations: every class of a file, with the photos that show it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from model.episode import IGNORE
from util.data.images.read import read_mask_of
from util.errors import UserError, nearest
from util.formats import masks, recognise
from util.formats.annotations import Annotations
from util.predict.photos import open_image
from util.predict.regions import Marking, marks_something
from util.predict.supports import AnnotatedSupport, SupportText, check_class_name

MAX_SHOTS = 100  # supports of a class; more take too much memory and are hardly meant
Listed = SupportText | AnnotatedSupport


def supports_in(
    texts: Sequence[str],
    photos: Path | None = None,
    classes: Sequence[str] = (),
    shots: int | None = None,
    marking: Marking | None = None,
) -> tuple[list[Listed], dict[int, str]]:
    """Return the supports of all classes in files or folders, and the categories of the first, id -> name.

    Args:
        texts: ``[format:]path``; see ``util/formats/recognise.py``.
        photos: the folder of the photos, where it is not that of the annotations.
        classes: the classes to take; () for all.
        shots: the supports to take of each class of a file, the first ones; None for all.
        marking: how masks are read that have no file of class names.

    Raises:
        UserError: a file is unreadable or in no known format, a class is missing, or a class has too many supports.
    """
    listed: list[Listed] = []
    categories: dict[int, str] = {}
    known: dict[str, None] = {}
    for text in texts:
        kind, path = recognise.recognise(text, photos)
        if kind == recognise.MASKS:
            names, found = _masked(path, photos, shots, marking or Marking())
        else:
            annotations = recognise.READERS[kind](path, photos)
            names, found = _annotated(annotations, path, classes, shots)
        categories = categories or (names if kind != recognise.YOLO else {n + 1: name for n, name in names.items()})
        known |= dict.fromkeys(names.values())
        listed += [support for support in found if not classes or support.name in classes]
    for name in classes:
        if texts and name not in known:
            raise UserError(f"--classes: '{name}' is not a class of {' or '.join(texts)}{nearest(name, known)}")
    if texts and not listed:
        raise UserError(f"{' and '.join(texts)}: no photo shows one of the classes; mark the object")
    return listed, categories


def _annotated(
    annotations: Annotations, path: Path, classes: Sequence[str], shots: int | None
) -> tuple[dict[int, str], list[Listed]]:
    """Return the categories of annotations, and the supports of each wanted one."""
    names = annotations.categories
    if len(set(names.values())) < len(names):
        raise UserError(f"{path}: two categories have the same name; rename or merge them")
    out: list[Listed] = []
    for category, name in names.items():
        if classes and name not in classes:
            continue
        showing = [p for p in annotations.photos if any(i.category == category and not i.crowd for i in p.instances)]
        check_class_name(name, str(path))
        _check_number(len(showing), name, path, shots)
        out += [AnnotatedSupport(name, annotations.path_of(photo), photo, category, path) for photo in showing[:shots]]
    return names, out


def _check_number(number: int, name: str, path: Path, shots: int | None) -> None:
    if shots is None and number > MAX_SHOTS:
        raise UserError(
            f"{path}: {number} photos show {name}; take some of them with --max-shots N, at most {MAX_SHOTS}, and some "
            "classes with --classes"
        )


def _masked(
    path: Path, photos: Path | None, shots: int | None, marking: Marking
) -> tuple[dict[int, str], list[Listed]]:
    """Return the classes of a folder of masks, and the supports of each.

    With a file of class names, the values of the masks are classes; without one, the object is what ``marking`` says.
    """
    folders = masks.folders_in(path, photos)
    if folders is None:
        raise UserError(f"{path}: holds no masks named like photos (photo.jpg, photo.png); name their folder")
    pairs, names = masks.pairs(*folders), masks.names_beside(folders[1])
    if names is None:
        found = [SupportText(None, photo, str(mask)) for photo, mask in _marked(pairs, marking, shots)]
        _check_number(len(found), "the object", path, shots)
        return {}, list(found)
    of_class: dict[str, list[Listed]] = {check_class_name(name, str(path)): [] for name in names}
    for photo, mask in pairs:
        for value in np.unique(read_mask_of(photo, mask)).tolist():
            if value in (0, IGNORE):
                continue
            if value > len(names):
                raise UserError(f"{mask}: holds the value {value}, but the file of names has {len(names)} classes")
            of_class[names[value - 1]].append(SupportText(names[value - 1], photo, str(mask), value))
    for name, supports in of_class.items():
        _check_number(len(supports), name, path, shots)
    return dict(enumerate(names, 1)), [support for supports in of_class.values() for support in supports[:shots]]


def _marked(pairs: Iterable[tuple[Path, Path]], marking: Marking, shots: int | None) -> Iterable[tuple[Path, Path]]:
    """Yield the photos whose masks mark something, up to a number."""
    count = 0
    for photo, mask in pairs:
        if count == shots:
            return
        if marking.mask_value is None:
            _check_one_index(mask)
        if marks_something(mask, marking):
            count += 1
            yield photo, mask


def _check_one_index(mask: Path) -> None:
    """Refuse a palette mask of several class indices."""
    with open_image(mask, "mask") as image:
        if image.mode != "P":
            return
        values = [value for value in np.unique(np.asarray(image)).tolist() if value not in (0, IGNORE)]
    if len(values) > 1:
        shown = ", ".join(map(str, values[:5]))
        raise UserError(
            f"{mask}: holds the class indices {shown}; name the classes in {masks.NAME_FILES[0]} beside the masks, one "
            "per line, or take one by --mask-value"
        )
