"""Turn a marked region of a support into a label: a mask image, outlines in JSON, boxes, points or a scribble.

Labels are (H, W) uint8 of the upright photo: 1 on the object, 0 elsewhere, 255 where the class is unknown, 253 in a
box about the object.

- A mask image marks what ``read_region`` says, or one given value; then 255 is unknown, as in VOC's masks.
- A box ``x0,y0,x1,y1`` covers the columns x0 .. x1 - 1 and the rows y0 .. y1 - 1; ``;`` separates several. The object
  is somewhere in it: its pixels are ``BOXED`` until the network has looked for it (``Segmenter.unboxed``).
- Points mark discs of a radius; a scribble also marks the lines between its points. The object extends further, so
  pixels up to ``UNKNOWN`` radii away are unknown, and only those beyond are background. Points near the object's
  edge, with a radius of the size of its parts, are the most informative.
- ``not=x,y`` marks discs that do not belong to the object, whatever other marks say.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PureWindowsPath

import numpy as np

from model.episode import IGNORE
from util.data.marks import BOX, POINTS, SCRIBBLE, point_label
from util.errors import UserError, nearest
from util.formats import labelme, recognise
from util.formats.annotations import AnnotatedPhoto, name_key, spellings, understood
from util.formats.painting import label_of

NOT = "not"  # the kind of points beside the object
DRAWN_KINDS = (BOX, POINTS, SCRIBBLE, NOT)
BETWEEN_MARKS = re.compile(r"\s+(?=\w+=)")
BOXED, DENIED = 253, 254  # in the label of a mark: in a box about the object, not of the object


def outlined_labels(path: Path, photo: Path, name: str | None) -> Iterator[np.ndarray]:
    """Yield the labels of the objects that a file of annotations outlines on a photo.

    Objects whose label equals the class name, ignoring case, are used, or all if they have one other label. A file of
    labelme is of one photo, whatever its name; in the others the photo's file name identifies it.

    UserError: the file cannot be read, lacks the photo, or has several labels, none of which is the class name.
    """
    if recognise.recognise(str(path))[0] == recognise.LABELME:
        annotations = understood(labelme.read_annotations(path, photo=photo))
    else:
        annotations = recognise.read(str(path), photo.parent)
    names = ({name_key(PureWindowsPath(s).name) for s in spellings(one.name)} for one in annotations.photos)
    listed = [one for one, of_photo in zip(annotations.photos, names) if name_key(photo.name) in of_photo]
    if len(listed) != 1:
        raise UserError(f"{path}: lists {len(listed)} images named '{photo.name}'; name the photo as the file does")
    labels = {annotations.categories[instance.category] for instance in listed[0].instances}
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


def union(labels: Iterable[np.ndarray]) -> np.ndarray:
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
