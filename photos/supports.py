"""Read annotated photos as supports: text ``[class=]photo:annotation``, files of annotations, or arrays.

Labels are (H, W) uint8 of the upright photo: 1 on the object, 0 elsewhere, 255 where the class is unknown, 253 in a
box about the object.

- A mask image marks what ``read_region`` says, or one given value; then 255 is unknown, as in VOC's masks.
- A box ``x0,y0,x1,y1`` covers the columns x0 .. x1 - 1 and the rows y0 .. y1 - 1; ``;`` separates several. The object
  is somewhere in it: its pixels are ``BOXED`` until the network has looked for it (``Segmenter.boxes_to_masks``).
- Points mark discs with a radius of 2 % of the photo's longer side; a scribble also marks the lines between its points.
  The object extends further, so pixels up to ``UNKNOWN`` radii away are unknown, and only those beyond are background.
  Points near the object's edge are the most informative.
- ``not=x,y`` marks discs that do not belong to the object, whatever other marks say.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from annotations import labelme, mask_files, masks, recognise
from annotations.annotation import AnnotatedPhoto, Annotations, Say, label_of
from annotations.interpret import interpret
from annotations.marks import BOX, POINTS, SCRIBBLE, point_label
from annotations.mask_set import MaskFacts, Palettes, check_set, facts_of, facts_of_all
from annotations.photo_files import name_key, spellings
from annotations.region import classes_in, read_region_of
from photos.photo_files import GivenPhoto, read_photo
from util.errors import UserError, nearest
from util.files.images import Colours, read_mask_of
from util.files.palette import IGNORE
from util.parallel import attempt

NOT = "not"  # the kind of points beside the object
DRAWN_KINDS = (BOX, POINTS, SCRIBBLE, NOT)
BETWEEN_MARKS = re.compile(r"\s+(?=\w+=)")
DRAWN_SUPPORT = re.compile(rf"(.*):\s*((?:{'|'.join(DRAWN_KINDS)})=.*)", re.DOTALL)  # what is marked, its drawn marks
BOXED, DENIED = 253, 254  # in the label of a mark: in a box about the object, not of the object
UNNAMED = "object"  # the name of a class without a name
MAX_NAME_LENGTH = 80
MAX_SHOTS = 100  # supports of a class in a file; more take too much memory and are hardly meant


@dataclass(frozen=True)
class Support:
    """A marked photo."""

    image: np.ndarray  # the upright photo, (H, W, 3) uint8
    label: np.ndarray  # (H, W) uint8 in {0, 1, 253, 255}, as said above
    source: str  # the files or "array", for results and messages


@dataclass(frozen=True)
class MarkedPhoto:
    """A photo on which a class is marked, not read yet."""

    name: str | None  # of the class; None where the marks name none
    photo: Path
    marks: str  # of ``DRAWN_KINDS`` with spaces between them, or the path of a mask or of a file of annotations
    mask_value: int | None = None  # the object's value in a mask; None for what ``read_region`` says
    unknown: tuple[int, ...] = ()  # values of a mask beside 255 that are unknown where ``mask_value`` is given
    annotated: AnnotatedPhoto | None = None  # the class's instances, where a file of annotations has been read
    colours: Colours | None = None  # of a mask -> value, where a file of names has them
    others: tuple[MarkedPhoto, ...] = ()  # further marks of the class on the photo

    @property
    def kinds(self) -> set[str]:
        """The kinds of its marks, beside ``others``: of ``DRAWN_KINDS``, ``outlines`` or ``mask``."""
        if self.marks.startswith(tuple(f"{kind}=" for kind in DRAWN_KINDS)):
            return {mark.partition("=")[0] for mark in BETWEEN_MARKS.split(self.marks)}
        is_outlined = self.annotated is not None or Path(self.marks).suffix.lower() == labelme.SUFFIX
        return {"outlines" if is_outlined else "mask"}

    def read(self, name: str | None = None) -> Support:
        """Return the marked photo, ``name`` for marks that name none; UserError: it and its marks do not fit."""
        image = read_photo(self.photo)
        labels = list[np.ndarray]()
        for marked in (self, *self.others):
            labels += marked._labels(image.shape[:2], name)
        sources = [f"{self.photo}:{self.marks}", *(other.marks for other in self.others)]
        return Support(image, merge_marks(labels), " + ".join(sources))

    def _labels(self, shape: tuple[int, int], name: str | None) -> Iterable[np.ndarray]:
        """Return the label of each mark beside ``others`` on the photo of a shape (H, W)."""
        if self.annotated is not None:
            categories = {instance.category for instance in self.annotated.instances}
            return labels_of(self.annotated, self.photo, categories)
        kinds = self.kinds
        if "mask" in kinds:
            return [self._mask_label()]
        if "outlines" in kinds:
            return outlined_labels(Path(self.marks), self.photo, self.name or name)
        return drawn_labels(self.marks, shape, origin=f"{self.photo}:{self.marks}")

    def _mask_label(self) -> np.ndarray:
        """Return the label {0, 1, 255} of a mask."""
        path = Path(self.marks)
        unknown = (IGNORE, *self.unknown)
        if self.colours is None:
            return read_region_of(self.photo, path, self.mask_value, unknown)
        values = read_mask_of(self.photo, path, self.colours)
        return np.where(np.isin(values, unknown), IGNORE, values == self.mask_value).astype(np.uint8)


GivenSupport = str | Support | MarkedPhoto | tuple[GivenPhoto, GivenPhoto]


def parse_support(text: str, mask_value: int | None = None) -> MarkedPhoto:
    """Split ``[class=]photo:annotation``, or raise a UserError; the paths of existing photos may contain = and :."""
    class_and_photo, marks = _split_marks(text)
    if not class_and_photo or not marks:
        fix = "Write PHOTO:mask.png or PHOTO:box=x0,y0,x1,y1 (other forms: predict.py --help)"
        raise UserError(f"--support {text}: the photo has no annotation. {fix}")
    kind, equals, _ = marks.partition("=")
    if equals and kind not in DRAWN_KINDS and not Path(marks).exists():
        problem = f"'{kind}' is no kind of annotation, and no such mask exists"
        raise UserError(f"--support {text}: {problem}{nearest(kind, DRAWN_KINDS)}")
    name, photo = _split_class(class_and_photo, origin=f"--support {text}:")
    return MarkedPhoto(name, Path(photo), marks, mask_value)


def _split_marks(text: str) -> tuple[str, str]:
    """Split ``[class=]photo:annotation`` before its annotation; a part that is missing is empty."""
    drawn = DRAWN_SUPPORT.fullmatch(text)
    if drawn:
        class_and_photo, marks = drawn.groups()
    else:
        class_and_photo, _, marks = text.rpartition(":")
    return class_and_photo.strip(), marks.strip()


def _split_class(class_and_photo: str, origin: str) -> tuple[str | None, str]:
    """Split ``[class=]photo``; errors as ``check_class_name``."""
    name, equals, photo = class_and_photo.partition("=")
    if not equals or Path(class_and_photo).exists():
        return None, class_and_photo
    return check_class_name(name, origin), photo.strip()


def check_class_name(name: str, origin: str = "the class") -> str:
    """Return a class name, stripped, or a UserError if it cannot be part of a file name and of a line."""
    if not isinstance(name, str):
        raise UserError(f"{origin} {name!r}: a class name is a text, such as 'cup'; write it in quotes")
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or name.startswith(".") or {*name} & {*"/\\"}:
        form = f"1 to {MAX_NAME_LENGTH} characters, none of them / or \\"
        raise UserError(f"{origin} {name!r}: a class name has {form}; rename it")
    return name


def by_class(marked: Iterable[MarkedPhoto], name: str | None) -> dict[str | None, list[MarkedPhoto]]:
    """Return the marked photos of each class, ``name`` of those without one, in order; one for a class on a photo."""
    default = None if name is None else check_class_name(name)
    classes: dict[str | None, dict[Path, MarkedPhoto]] = {}
    for marks in marked:
        photos = classes.setdefault(marks.name or default, {})
        path = marks.photo.resolve()
        first = photos.setdefault(path, marks)
        if first is not marks:
            photos[path] = replace(first, others=(*first.others, marks))
    return {class_name: list(photos.values()) for class_name, photos in classes.items()}


def read_supports(
    texts: Sequence[str],
    photos: Path | None = None,
    *,
    classes: Sequence[str] = (),
    shots: int | None = None,
    mask_value: int | None = None,
    say: Say | None = None,
) -> tuple[list[MarkedPhoto], dict[int, str]]:
    """Return the marked photos of all classes in files or folders, and the categories of the first, id -> name.

    Args:
        texts: ``[format:]path``; see ``annotations/recognise.py``.
        photos: the folder of the photos, where it is not that of the annotations.
        classes: the classes to take; () for all.
        shots: the photos to take of each class of a file, the first ones; None for all.
        mask_value: of the object in masks that have no file of class names.
        say: takes each line on what is not understood; default to the error output.

    UserError: a file is unreadable or in no known format, a class is missing, or a class has too many photos.
    """
    if not texts:
        return [], {}
    marked = list[MarkedPhoto]()
    categories = list[dict[int, str]]()
    for text in texts:
        kind, path = recognise.recognise(text)
        if kind == recognise.MASKS:
            on_masks, names = _of_masks(path, photos, shots, mask_value)
            marked += _select(on_masks, names, path, classes=classes, shots=shots)
        else:
            annotations = recognise.read(text, photos, say)
            names = annotations.categories
            selected = _select(_of_annotations(annotations), names, path, classes=classes, shots=shots)
            marked += _with_paths(selected, annotations)
        categories.append(names)
    _check_classes(marked, categories, classes, texts)
    return marked, categories[0]


def _of_masks(
    path: Path, photos: Path | None, shots: int | None, mask_value: int | None
) -> tuple[list[MarkedPhoto], dict[int, str]]:
    """Return the marked photos of a folder of masks, all that are needed, and its classes, value -> name."""
    photo_folder, mask_folder = mask_files.folders_in(path, photos)
    known = masks.names_beside(mask_folder)
    pairs = mask_files.pairs(photo_folder, mask_folder)
    if known is not None:
        return list(_named_masks(pairs, known)), known.classes
    return list(islice(_unnamed_masks(pairs, mask_value), shots)), {}


def _named_masks(pairs: list[tuple[Path, Path]], known: masks.MaskNames) -> Iterator[MarkedPhoto]:
    """Yield the class of every value in every mask; of one class, also where a mask shows it without class ids.

    UserError: as ``check_set``; a value or a colour has no name, or 255 is all that a mask marks.
    """
    read = facts_of_all([mask for _, mask in pairs], known.colours)
    facts = [mask for mask in read if isinstance(mask, MaskFacts)]
    check_set(facts, known)
    _refuse_255(facts, known)
    unknown = tuple(value for value, name in known.names.items() if not name)
    for (photo, mask), of_mask in zip(pairs, read, strict=True):
        if isinstance(of_mask, UserError):
            if len(known.names) > 1 or known.colours is not None:
                raise of_mask
            yield from _unnamed_masks([(photo, mask)], None, *known.classes.values())
            continue
        for value in sorted(of_mask.values - {0, IGNORE}):
            if value not in known.names:
                raise UserError(f"{mask}: holds the value {value}, but {known.path} has {len(known.names)} classes")
            name = known.names[value]
            if name:
                yield MarkedPhoto(name, photo, str(mask), mask_value=value, unknown=unknown, colours=known.colours)


def _refuse_255(facts: Sequence[MaskFacts], known: masks.MaskNames) -> None:
    """Refuse (UserError) masks in which 255 is all that is marked."""
    white = [mask.path.name for mask in facts if mask.marks_255_alone]
    if white:
        problem = f"{len(white)} mask(s), such as {white[0]}, hold only 255, which means unknown beside class ids"
        fix = "give those pixels the value of their class, or take these masks out"
        raise UserError(f"{known.path}: {problem}; {fix}")


def _unnamed_masks(
    pairs: list[tuple[Path, Path]], mask_value: int | None, name: str | None = None
) -> Iterator[MarkedPhoto]:
    """Yield every mask that marks something; UserError: they seem to hold several classes."""
    values = set[Any]()
    palettes = Palettes()
    for photo, mask in pairs:
        if mask_value is None:
            values |= classes_in(mask)
            _check_one_class(values, mask)
        of_mask = attempt(facts_of, mask)
        if isinstance(of_mask, MaskFacts):
            palettes.add(of_mask)
        if (read_region_of(photo, mask, mask_value) == 1).any():
            yield MarkedPhoto(name, photo, str(mask), mask_value)


def _check_one_class(values: set[Any], mask: Path) -> None:
    """Refuse (UserError) masks up to this one whose values, as of ``classes_in``, tell several classes apart."""
    colours = {value for value in values if isinstance(value, tuple)}
    indices = values - colours
    if len(indices) > 1:
        what, several = "class indices", indices
        fix = f"{masks.NAME_FILES[0]} beside the masks, one per line, or take one by --mask-value"
    elif len(colours) > 1:
        what, several = "colours", colours
        fix = masks.LABEL_MAP
    else:
        return
    problem = f"this mask and those before hold the {what} {sorted(several)[:5]}"
    raise UserError(f"{mask}: {problem}; name the classes in {fix}")


def _of_annotations(annotations: Annotations) -> Iterator[MarkedPhoto]:
    """Yield every class of every photo of a file of annotations; the photos are not found yet."""
    for photo in annotations.photos:
        categories = dict.fromkeys(instance.category for instance in photo.instances if instance.is_object)
        for category in categories:
            instances = tuple(instance for instance in photo.instances if instance.category == category)
            name = annotations.categories[category]
            annotated = photo._replace(instances=instances)
            yield MarkedPhoto(name, Path(photo.name), str(annotations.source), annotated=annotated)


def _select(
    candidates: Iterable[MarkedPhoto],
    names: dict[int, str],
    path: Path,
    *,
    classes: Sequence[str],
    shots: int | None,
) -> list[MarkedPhoto]:
    """Return the first photos of each class, in the order of the names.

    UserError: one has more than can be used, or a name as ``check_class_name``.
    """
    by_name: dict[str | None, list[MarkedPhoto]] = {name: [] for name in names.values()} or {None: []}
    for marked in candidates:
        by_name[marked.name].append(marked)
    selected = list[MarkedPhoto]()
    for name, photos in by_name.items():
        if classes and name not in classes:
            continue
        if name and photos:
            check_class_name(name, f"{path}: the class")
        if shots is None and len(photos) > MAX_SHOTS:
            fix = f"take some of them with --max-shots N, at most {MAX_SHOTS}, and some classes with --classes"
            raise UserError(f"{path}: {len(photos)} photos show {name or 'the object'}; {fix}")
        selected += photos[:shots]
    return selected


def _with_paths(selected: list[MarkedPhoto], annotations: Annotations) -> Iterator[MarkedPhoto]:
    """Yield marked photos of annotations with the paths of their files; UserError: one is not there."""
    for marked in selected:
        assert marked.annotated is not None
        yield replace(marked, photo=annotations.path_of(marked.annotated))


def _check_classes(
    listed: list[MarkedPhoto], categories: list[dict[int, str]], classes: Sequence[str], texts: Sequence[str]
) -> None:
    """Refuse (UserError) classes that no file knows or no photo shows, and files that show none."""
    declared = {name for names in categories for name in names.values()}
    shown = {marked.name for marked in listed}
    for name in classes:
        if name not in declared:
            raise UserError(f"--classes: '{name}' is not a class of {' or '.join(texts)}{nearest(name, declared)}")
        if name not in shown:
            raise UserError(f"--classes: no photo of {' or '.join(texts)} shows '{name}'; annotate it, or leave it out")
    if not listed:
        raise UserError(f"{' and '.join(texts)}: no photo shows one of the classes; annotate the object")


def support_from_arrays(image: GivenPhoto, mask: GivenPhoto) -> Support:
    """Return a support that is not of two files: a photo as ``read_photo`` takes it, and its mask or drawn marks.

    The mask is a file, an image of Pillow, an array or tensor as ``read_region`` takes it, or of ``DRAWN_KINDS``.
    """
    photo = read_photo(image)
    if isinstance(mask, str) and mask.partition("=")[0] in DRAWN_KINDS:
        labels = drawn_labels(mask, photo.shape[:2], origin="a support")
        return Support(photo, merge_marks(labels), "array")
    stored = image if isinstance(image, str | Path) else photo  # a file states how its mask is turned
    return Support(photo, read_region_of(stored, mask), "array")


def supports_of(given: Sequence[GivenSupport], name: str | None) -> dict[str | None, list[Support]]:
    """Return the supports of each class, read; ``name`` is the class of those that name none."""
    marked = list[MarkedPhoto]()
    in_memory = list[Support]()
    form = f"examples of {name or UNNAMED}: give a list of pairs (photo, annotation)"
    if isinstance(given, str):
        raise UserError(f"{form}, not the text '{given}'")
    for support in given:
        match support:
            case (str() | Path() as photo, str() | Path() as marks):
                marked.append(MarkedPhoto(None, Path(photo), str(marks)))
            case (photo, marks):
                in_memory.append(support_from_arrays(photo, marks))
            case Support():
                in_memory.append(support)
            case MarkedPhoto():
                marked.append(support)
            case str():
                marked.append(parse_support(support))
            case _:
                raise UserError(f"{form}, not {type(support)}")
    supports = dict[str | None, list[Support]]()
    for class_name, photos in by_class(marked, name).items():
        supports[class_name] = [photo.read(class_name) for photo in photos]
    if in_memory:
        supports.setdefault(name, []).extend(in_memory)
    return supports


def outlined_labels(path: Path, photo: Path, name: str | None) -> Iterator[np.ndarray]:
    """Yield the labels of the objects that a file of annotations outlines on a photo.

    Objects whose label equals the class name, ignoring case, are used, or all if they have one other label. A file of
    labelme is of one photo, whatever its name; in the others the photo's file name identifies it.

    UserError: the file cannot be read, lacks the photo, or has several labels, none of which is the class name.
    """
    kind, _ = recognise.recognise(str(path))
    if kind == recognise.LABELME:
        annotations = interpret(labelme.read_annotations(path, photo=photo))
    else:
        annotations = recognise.read(str(path), photo.parent)
    annotated = _annotated_photo(annotations, photo, path)
    labels = {annotations.categories[instance.category] for instance in annotated.instances}
    chosen = [label for label in sorted(labels) if label.lower() == (name or "").lower()] or sorted(labels)
    if len(chosen) > 1:
        hint = nearest(name, labels) if name else f"; name one: --support {chosen[0]}=PHOTO:{path}"
        raise UserError(f"{path}: outlines several things, and none has the label '{name or ''}'{hint}")
    categories = [category for category, label in annotations.categories.items() if label in chosen]
    return labels_of(annotated, photo, categories)


def _annotated_photo(annotations: Annotations, photo: Path, path: Path) -> AnnotatedPhoto:
    """Return what a file of annotations says of a photo; UserError: nothing, or of no single object."""
    matches = [annotated for annotated in annotations.photos if _has_name_of(photo, annotated)]
    if len(matches) != 1:
        raise UserError(f"{path}: lists {len(matches)} images named '{photo.name}'; name the photo as the file does")
    (annotated,) = matches
    if annotated.instances and not any(instance.is_object for instance in annotated.instances):
        problem = f"has only crowd regions on '{photo.name}' (iscrowd 1), whose pixels are unknown"
        raise UserError(f"{path}: {problem}; set iscrowd to 0 where a region is of one object")
    return annotated


def _has_name_of(photo: Path, annotated: AnnotatedPhoto) -> bool:
    names = [PureWindowsPath(spelling).name for spelling in spellings(annotated.name)]
    return name_key(photo.name) in map(name_key, names)


def labels_of(annotated: AnnotatedPhoto, path: Path, categories: Collection[int]) -> Iterator[np.ndarray]:
    """Yield the label {0, 1, 255} of what is outlined on a photo, and {0, 253, 255} of boxes, if there are any."""
    outlined = tuple(instance for instance in annotated.instances if not instance.box)
    yield label_of(annotated._replace(instances=outlined), path, dict.fromkeys(categories, 1))
    boxed = tuple(instance for instance in annotated.instances if instance.box)
    if boxed:
        yield label_of(annotated._replace(instances=boxed), path, dict.fromkeys(categories, BOXED))


def merge_marks(labels: Iterable[np.ndarray]) -> np.ndarray:
    """Return the label of all marks of an object on one photo, {0, 1, 253, 255}, from those of each.

    A pixel is of the object if one mark says so and none denies it, else in a box, else unknown if one leaves it open.
    """
    marks = np.stack([*labels])
    marked_as = [(marks == value).any(0) for value in (DENIED, 1, BOXED, IGNORE)]
    return np.select(marked_as, [0, 1, BOXED, IGNORE]).astype(np.uint8)


def drawn_labels(text: str, shape: tuple[int, int], origin: str) -> Iterator[np.ndarray]:
    """Yield the label {0, 1, 253 .. 255} of each mark of ``DRAWN_KINDS``, kind=numbers, on a photo of a shape (H, W).

    Spaces separate marks. UserError: the text has another form, or reaches beyond the photo; begins with ``origin``.
    """
    height, width = shape
    for mark in BETWEEN_MARKS.split(text):
        kind, _, numbers = mark.partition("=")
        if kind not in DRAWN_KINDS:
            raise UserError(f"{origin}: '{kind}' is no kind of annotation{nearest(kind, DRAWN_KINDS)}")
        points = _points_on_photo(kind, numbers, shape)
        if points is None:
            form = "x0,y0,x1,y1;... with x0 < x1 and y0 < y1" if kind == BOX else "x,y;x,y"
            raise UserError(f"{origin}: write {kind}={form}, in pixels of the photo, which is {width} x {height}")
        if kind == BOX:
            yield _box_label(points, shape)
            continue
        label = point_label(points, shape, kind == SCRIBBLE)
        if kind == NOT:
            label = np.where(label == 1, DENIED, 0).astype(np.uint8)
        yield label


def _points_on_photo(kind: str, numbers: str, shape: tuple[int, int]) -> list[tuple[float, ...]] | None:
    """Return the points (x, y), or boxes (x0, y0, x1, y1), of a mark; None: they have another form, or lie outside."""
    height, width = shape
    try:
        points = [tuple(map(float, point.split(","))) for point in numbers.split(";")]
        if kind == BOX:
            is_inside = all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in points)
        else:
            is_inside = all(0 <= x < width and 0 <= y < height for x, y in points)
    except ValueError:
        return None
    return points if is_inside else None


def _box_label(boxes: list[tuple[float, ...]], shape: tuple[int, int]) -> np.ndarray:
    """Return the label {0, 253} (H, W) uint8 of boxes (x0, y0, x1, y1)."""
    label = np.zeros(shape, np.uint8)
    for left, top, right, bottom in boxes:
        label[round(top) : round(bottom), round(left) : round(right)] = BOXED
    return label
