"""Read marked photos as supports: text ``[class=]photo:marks``, files of annotations, or arrays.

Labels are (H, W) uint8 of the upright photo: 1 on the object, 0 elsewhere, 255 where the class is unknown, 253 in a
box about the object.

- A mask image marks what ``read_region`` says, or one given value; then 255 is unknown, as in VOC's masks.
- A box ``x0,y0,x1,y1`` covers the columns x0 .. x1 - 1 and the rows y0 .. y1 - 1; ``;`` separates several. The object
  is somewhere in it: its pixels are ``BOXED`` until the network has looked for it (``Segmenter.boxes_to_masks``).
- Points mark discs of a radius; a scribble also marks the lines between its points. The object extends further, so
  pixels up to ``UNKNOWN`` radii away are unknown, and only those beyond are background. Points near the object's
  edge, with a radius of the size of its parts, are the most informative.
- ``not=x,y`` marks discs that do not belong to the object, whatever other marks say.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from model.episode import IGNORE
from util.data.images.read import Colours, read_mask_of
from util.data.images.region import classes_in, read_region_of
from util.data.marks import BOX, POINTS, SCRIBBLE, point_label
from util.errors import UserError, nearest
from util.formats import labelme, masks, recognise
from util.formats.annotations import AnnotatedPhoto, Annotations, Say, label_of
from util.formats.interpret import interpret
from util.formats.photo_files import name_key, spellings
from util.predict.photos import GivenPhoto, read_photo

NOT = "not"  # the kind of points beside the object
DRAWN_KINDS = (BOX, POINTS, SCRIBBLE, NOT)
BETWEEN_MARKS = re.compile(r"\s+(?=\w+=)")
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
    radius: float | None = None  # of points in pixels; None for 2 % of the photo's longer side
    annotated: AnnotatedPhoto | None = None  # the class's instances, where a file of annotations has been read
    colours: Colours | None = None  # of a mask -> value, where a file of names has them
    others: tuple[MarkedPhoto, ...] = ()  # further marks of the class on the photo

    @property
    def kinds(self) -> set[str]:
        """The kinds of its marks, beside ``others``: of ``DRAWN_KINDS``, ``outlines`` or ``mask``."""
        if self.marks.startswith(tuple(f"{kind}=" for kind in DRAWN_KINDS)):
            return {part.partition("=")[0] for part in BETWEEN_MARKS.split(self.marks)}
        outlined = self.annotated is not None or Path(self.marks).suffix.lower() == labelme.SUFFIX
        return {"outlines" if outlined else "mask"}

    def read(self, name: str | None = None) -> Support:
        """Return the marked photo, ``name`` for marks that name none; UserError: it and its marks do not fit."""
        image, marked = read_photo(self.photo), (self, *self.others)
        labels = [label for one in marked for label in one._labels(image.shape[:2], name)]
        source = " + ".join([f"{self.photo}:{self.marks}", *(m.marks for m in self.others)])
        return Support(image, merge_marks(labels), source)

    def _labels(self, shape: tuple[int, int], name: str | None) -> Iterable[np.ndarray]:
        path = Path(self.marks)
        if self.annotated is not None:
            return labels_of(self.annotated, self.photo, {one.category for one in self.annotated.instances})
        if "mask" in self.kinds and self.colours is not None:
            indices = read_mask_of(self.photo, path, self.colours)
            void = np.isin(indices, (IGNORE, *self.unknown))
            return [np.where(void, IGNORE, indices == self.mask_value).astype(np.uint8)]
        if "mask" in self.kinds:
            return [read_region_of(self.photo, path, self.mask_value, (IGNORE, *self.unknown))]
        if "outlines" in self.kinds:
            return outlined_labels(path, self.photo, self.name or name)
        return drawn_labels(self.marks, shape, self.radius, f"{self.photo}:{self.marks}")


GivenSupport = str | Support | MarkedPhoto | tuple[GivenPhoto, GivenPhoto]


def parse_support(text: str, mask_value: int | None = None, radius: float | None = None) -> MarkedPhoto:
    """Split ``[class=]photo:marks``, or raise a UserError; the paths of existing photos may contain = and :."""
    drawn_marks = re.fullmatch(rf"(.*):\s*((?:{'|'.join(DRAWN_KINDS)})=.*)", text, re.DOTALL)
    path, marks = (part.strip() for part in (drawn_marks.groups() if drawn_marks else text.rpartition(":")[::2]))
    if not path or not marks:
        form = "photo.jpg:mask.png, or for the mask outlines.json, box=x0,y0,x1,y1, points=x,y;x,y, scribble=x,y;x,y"
        several = "with spaces between several marks, of which not=x,y is beside the object"
        raise UserError(f"--support {text}: write {form}; {several}")
    kind, drawn, _ = marks.partition("=")
    if drawn and kind not in DRAWN_KINDS and not Path(marks).exists():
        raise UserError(f"--support {text}: '{kind}' is no mark, and no such mask exists{nearest(kind, DRAWN_KINDS)}")
    name, equals, rest = path.partition("=")
    is_named = equals and not Path(path).exists()
    photo, of = (rest.strip(), check_class_name(name, f"--support {text}:")) if is_named else (path, None)
    return MarkedPhoto(of, Path(photo), marks, mask_value, radius=radius)


def check_class_name(name: str, origin: str = "--name") -> str:
    """Return a class name, stripped, or a UserError if it cannot be part of a file name and of a line."""
    name = name.strip()
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable() or name.startswith(".") or {*name} & {*"/\\"}:
        raise UserError(f"{origin} {name!r}: a class name has 1 to {MAX_NAME_LENGTH} characters, none of them / or \\")
    return name


def by_class(marked: Iterable[MarkedPhoto], name: str | None) -> dict[str | None, list[MarkedPhoto]]:
    """Return the marked photos of each class, ``name`` of those without one, in order; one for a class on a photo."""
    default = None if name is None else check_class_name(name)
    out: dict[str | None, dict[Path, MarkedPhoto]] = {}
    for one in marked:
        of_class, photo = out.setdefault(one.name or default, {}), one.photo.resolve()
        if (first := of_class.setdefault(photo, one)) is not one:
            of_class[photo] = replace(first, others=(*first.others, one))
    return {class_name: list(of_class.values()) for class_name, of_class in out.items()}


def read_supports(
    texts: Sequence[str],  # ``[format:]path``; see ``util/formats/recognise.py``
    photos: Path | None = None,  # the folder of the photos, where it is not that of the annotations
    classes: Sequence[str] = (),  # the classes to take; () for all
    shots: int | None = None,  # the photos to take of each class of a file, the first ones; None for all
    mask_value: int | None = None,  # of the object in masks that have no file of class names
    say: Say | None = None,  # takes each line on what is not understood; default to the error output
) -> tuple[list[MarkedPhoto], dict[int, str]]:
    """Return the marked photos of all classes in files or folders, and the categories of the first, id -> name.

    UserError: a file is unreadable or in no known format, a class is missing, or a class has too many photos.
    """
    listed, categories = list[MarkedPhoto](), list[dict[int, str]]()
    for text in texts:
        kind, path = recognise.recognise(text)
        if kind == recognise.MASKS:
            found, names = _of_masks(path, photos, shots, mask_value)
            listed += _first_of_each(found, names, path, classes, shots)
        else:
            annotations = recognise.read(text, photos, say)
            names = annotations.categories
            for one in _first_of_each([*_of_annotations(annotations)], names, path, classes, shots):
                listed.append(replace(one, photo=annotations.path_of(one.annotated)) if one.annotated else one)
        categories.append(names)
    if texts:
        _check_classes(listed, categories, classes, texts)
    return listed, categories[0] if categories else {}


def _of_masks(
    path: Path, photos: Path | None, shots: int | None, mask_value: int | None
) -> tuple[list[MarkedPhoto], dict[int, str]]:
    """Return the marked photos of a folder of masks, all that are needed, and its classes, value -> name."""
    of_photos, of_masks = masks.folders_in(path, photos)
    known, pairs = masks.names_beside(of_masks), masks.pairs(of_photos, of_masks)
    if known is not None:
        return [*_named_masks(pairs, known)], known.classes
    return [*islice(_unnamed_masks(pairs, mask_value), shots)], {}


def _named_masks(pairs: list[tuple[Path, Path]], known: masks.MaskNames) -> Iterator[MarkedPhoto]:
    """Yield the class of every value in every mask; UserError: a value or a colour has no name."""
    unknown = tuple(value for value, name in known.names.items() if not name)
    for photo, mask in pairs:
        for value in np.unique(read_mask_of(photo, mask, known.colours)).tolist():
            if value not in (0, IGNORE, *known.names):
                raise UserError(f"{mask}: holds the value {value}, but {known.path} has {len(known.names)} classes")
            if known.names.get(value):
                yield MarkedPhoto(known.names[value], photo, str(mask), value, unknown, colours=known.colours)


def _unnamed_masks(pairs: list[tuple[Path, Path]], mask_value: int | None) -> Iterator[MarkedPhoto]:
    """Yield every mask that marks something; UserError: they seem to hold several classes."""
    by_index = f"{masks.NAME_FILES[0]} beside the masks, one per line, or take one by --mask-value"
    indices, colours = set[Any](), set[Any]()
    for photo, mask in pairs:
        for found in classes_in(mask) if mask_value is None else ():
            (colours if isinstance(found, tuple) else indices).add(found)
        for what, values, fix in (("class indices", indices, by_index), ("colours", colours, masks.LABEL_MAP)):
            if len(values) > 1:
                problem = f"this mask and those before hold the {what} {sorted(values)[:5]}"
                raise UserError(f"{mask}: {problem}; name the classes in {fix}")
        if (read_region_of(photo, mask, mask_value) == 1).any():
            yield MarkedPhoto(None, photo, str(mask), mask_value)


def _of_annotations(annotations: Annotations) -> Iterator[MarkedPhoto]:
    """Yield every class of every photo of a file of annotations; the photos are not found yet."""
    for photo in annotations.photos:
        for category in dict.fromkeys(instance.category for instance in photo.instances if instance.is_object):
            instances = tuple(instance for instance in photo.instances if instance.category == category)
            of_class = photo._replace(instances=instances)
            name = annotations.categories[category]
            yield MarkedPhoto(name, Path(photo.name), str(annotations.source), annotated=of_class)


def _first_of_each(
    found: list[MarkedPhoto], names: dict[int, str], path: Path, classes: Sequence[str], shots: int | None
) -> list[MarkedPhoto]:
    """Return the first photos of each class, in the order of the names; UserError: one has more than can be used."""
    of_class: dict[str | None, list[MarkedPhoto]] = {name: [] for name in names.values()} or {None: []}
    for marked in found:
        of_class[marked.name].append(marked)
    out = []
    for name, of_name in of_class.items():
        if classes and name not in classes:
            continue
        if shots is None and len(of_name) > MAX_SHOTS:
            fix = f"take some of them with --max-shots N, at most {MAX_SHOTS}, and some classes with --classes"
            raise UserError(f"{path}: {len(of_name)} photos show {name or 'the object'}; {fix}")
        out += of_name[:shots]
    return out


def _check_classes(
    listed: list[MarkedPhoto], categories: list[dict[int, str]], classes: Sequence[str], texts: Sequence[str]
) -> None:
    """Refuse (UserError) classes that no file knows or no photo shows, and files that show none."""
    declared = {name for names in categories for name in names.values()}
    for name in classes:
        if name not in declared:
            raise UserError(f"--classes: '{name}' is not a class of {' or '.join(texts)}{nearest(name, declared)}")
        if not any(marked.name == name for marked in listed):
            raise UserError(f"--classes: no photo of {' or '.join(texts)} shows '{name}'; mark it, or leave it out")
    if not listed:
        raise UserError(f"{' and '.join(texts)}: no photo shows one of the classes; mark the object")


def support_from_arrays(image: GivenPhoto, mask: GivenPhoto) -> Support:
    """Return a support that is not of two files: a photo as ``read_photo`` takes it, and its mask or drawn marks.

    The mask is a file, an image of Pillow, an array or tensor as ``read_region`` takes it, or of ``DRAWN_KINDS``.
    """
    given, image = image, read_photo(image)
    if isinstance(mask, str) and mask.partition("=")[0] in DRAWN_KINDS:
        return Support(image, merge_marks(drawn_labels(mask, image.shape[:2], None, "a support")), "array")
    return Support(image, read_region_of(given if isinstance(given, str | Path) else image, mask), "array")


def supports_of(given: Sequence[GivenSupport], name: str | None) -> dict[str | None, list[Support]]:
    """Return the supports of each class, read; ``name`` is the class of those that name none."""
    marked, in_memory = list[MarkedPhoto](), list[Support]()
    for one in given:
        match one:
            case (str() | Path(), str() | Path()):
                marked.append(MarkedPhoto(None, Path(one[0]), str(one[1])))
            case (photo, marks):
                in_memory.append(support_from_arrays(photo, marks))
            case Support():
                in_memory.append(one)
            case str() | MarkedPhoto():
                marked.append(parse_support(one) if isinstance(one, str) else one)
            case _:
                raise UserError(f"supports of {name or UNNAMED}: give a list of pairs (photo, marks), not {type(one)}")
    groups = {known: [one.read(known) for one in of_class] for known, of_class in by_class(marked, name).items()}
    if in_memory:
        groups.setdefault(name, []).extend(in_memory)
    return groups


def outlined_labels(path: Path, photo: Path, name: str | None) -> Iterator[np.ndarray]:
    """Yield the labels of the objects that a file of annotations outlines on a photo.

    Objects whose label equals the class name, ignoring case, are used, or all if they have one other label. A file of
    labelme is of one photo, whatever its name; in the others the photo's file name identifies it.

    UserError: the file cannot be read, lacks the photo, or has several labels, none of which is the class name.
    """
    if recognise.recognise(str(path))[0] == recognise.LABELME:
        annotations = interpret(labelme.read_annotations(path, photo=photo))
    else:
        annotations = recognise.read(str(path), photo.parent)
    names = ({name_key(PureWindowsPath(s).name) for s in spellings(one.name)} for one in annotations.photos)
    listed = [one for one, of_photo in zip(annotations.photos, names) if name_key(photo.name) in of_photo]
    if len(listed) != 1:
        raise UserError(f"{path}: lists {len(listed)} images named '{photo.name}'; name the photo as the file does")
    labels = {annotations.categories[instance.category] for instance in listed[0].instances}
    if listed[0].instances and not any(instance.is_object for instance in listed[0].instances):
        problem = f"marks '{photo.name}' with crowd regions alone (iscrowd 1), whose pixels are unknown"
        raise UserError(f"{path}: {problem}; set iscrowd to 0 where a region is of one object")
    chosen = [label for label in sorted(labels) if label.lower() == (name or "").lower()] or sorted(labels)
    if len(chosen) > 1:
        hint = nearest(name, labels) if name else f"; choose one of {', '.join(chosen)} with --name"
        raise UserError(f"{path}: outlines several things, and none has the label '{name or ''}'{hint}")
    return labels_of(listed[0], photo, [c for c, label in annotations.categories.items() if label in chosen])


def labels_of(annotated: AnnotatedPhoto, path: Path, categories: Iterable[int]) -> Iterator[np.ndarray]:
    """Yield the label {0, 1, 255} of what is outlined on a photo, and {0, 253, 255} of boxes, if there are any."""
    for value in (1, BOXED):
        some = tuple(one for one in annotated.instances if bool(one.box) == (value == BOXED))
        if some or value == 1:
            yield label_of(annotated._replace(instances=some), path, dict.fromkeys(categories, value))


def merge_marks(labels: Iterable[np.ndarray]) -> np.ndarray:
    """Return the label of all marks of an object on one photo, {0, 1, 253, 255}, from those of each.

    A pixel is of the object if one mark says so and none denies it, else in a box, else unknown if one leaves it open.
    """
    marks = np.stack([*labels])
    says = [(marks == value).any(0) for value in (DENIED, 1, BOXED, IGNORE)]
    return np.select(says, [0, 1, BOXED, IGNORE]).astype(np.uint8)


def drawn_labels(text: str, shape: tuple[int, int], radius: float | None, origin: str) -> Iterator[np.ndarray]:
    """Yield the label {0, 1, 253 .. 255} of each mark of ``DRAWN_KINDS``, kind=numbers, on a photo of a shape (H, W).

    Spaces separate marks; a ``radius`` of points is in pixels, None for 2 % of the photo's longer side. UserError: the
    text has another form, or reaches beyond the photo; begins with ``origin``.
    """
    height, width = shape
    for mark in BETWEEN_MARKS.split(text):
        kind, _, numbers = mark.partition("=")
        if kind not in DRAWN_KINDS:
            raise UserError(f"{origin}: '{kind}' is no mark{nearest(kind, DRAWN_KINDS)}")
        try:
            points = [tuple(map(float, point.split(","))) for point in numbers.split(";")]
            if kind == BOX:
                fits = all(0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height for x0, y0, x1, y1 in points)
            else:
                fits = all(0 <= x < width and 0 <= y < height for x, y in points)
        except ValueError:
            fits = False
        if not fits:
            form = "x0,y0,x1,y1;... with x0 < x1 and y0 < y1" if kind == BOX else "x,y;x,y"
            raise UserError(f"{origin}: write {kind}={form}, in pixels of the photo, which is {width} x {height}")
        if kind == BOX:
            label = np.zeros(shape, np.uint8)
            for left, top, right, bottom in points:
                label[round(top) : round(bottom), round(left) : round(right)] = BOXED
            yield label
        else:
            label = point_label(points, shape, kind == SCRIBBLE, radius)
            yield np.where(label == 1, DENIED, 0).astype(np.uint8) if kind == NOT else label
