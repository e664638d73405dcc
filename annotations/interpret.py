"""The meaning of annotations in any format: which of their entries mark objects, and of which form of a photo."""

from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from pathlib import Path

import numpy as np

from annotations.annotation import AnnotatedPhoto, Annotations, Instance, Say
from annotations.masks import check_alike
from annotations.pictures import header_of
from annotations.remarks import (
    BACKGROUND,
    BACKGROUND_LEFT_OUT,
    BEYOND,
    BOX,
    CROWD,
    EXCHANGED,
    LONE_CROWD,
    NO_OUTLINE,
    NO_SHAPE,
    RECTANGLE,
    UNKNOWN_REGIONS,
    Remarks,
    is_class,
    is_unknown,
)
from annotations.shapes import corners_of, has_area, is_rectangle
from util.files.errors import UserError, note
from util.files.images import upright_size

CUT = 2  # pixels by which outlines may reach beyond a photo without a word


def interpret(annotations: Annotations, say: Say | None = None) -> Annotations:
    """Return the entries that mark objects; lines say what does not, and what was decided (``remarks.py``).

    A box without outline is filled. Regions whose name says so (``is_unknown``) are unknown for all classes of the
    photo, those of ``BACKGROUND`` are left out. Crowd regions are unknown, but objects where their category has no
    others in the file. Outlines beyond a turned photo's stated size tell that
    sizes are of its other form.

    Args:
        annotations: what a reader returns.
        say: gets each line, default the error output.

    Raises:
        UserError: nothing has a meaning, two names differ by case alone, or the outlines contradict each other in what
            they are of.
    """
    remarks = annotations.remarks
    categories = annotations.categories
    photos = [_with_meaning(photo, categories, remarks) for photo in annotations.photos]
    photos = _without_lone_crowds(photos, categories, remarks)
    marked = {instance.category for photo in photos for instance in photo.instances}
    say = say or note
    _note_rectangles([instance for photo in photos for instance in photo.instances], remarks)
    check_alike((name for number, name in categories.items() if number in marked), annotations.source, say)
    _check_shows_objects(photos, annotations)
    classes = {number: name for number, name in categories.items() if is_class(name)}
    meaning = _with_fitting_sizes(replace(annotations, photos=tuple(photos), categories=classes))
    for line in remarks.lines():
        say(f"{annotations.source}: {line}")
    return meaning


def _note_rectangles(instances: Sequence[Instance], remarks: Remarks) -> None:
    """Remark where the outlines of all objects are rectangles: they may be boxes, as programs of detection export."""
    if all(is_rectangle(instance.shape) for instance in instances):
        remarks.add(RECTANGLE, count=sum(not instance.box for instance in instances))


def _with_meaning(photo: AnnotatedPhoto, categories: Mapping[int, str], remarks: Remarks) -> AnnotatedPhoto:
    """Return a photo with shapes for its boxes, with unknown regions for all of its classes, without background."""
    objects: list[Instance] = []
    ignored: list[Instance] = []
    for instance in photo.instances:
        name = categories[instance.category]
        shaped = _with_shape(instance, remarks)
        if shaped is None:
            continue
        if name.casefold() in BACKGROUND:
            remarks.add(BACKGROUND_LEFT_OUT, name)
        elif is_unknown(name):
            remarks.add(UNKNOWN_REGIONS, name)
            ignored.append(shaped)
        else:
            objects.append(shaped)
    classes = dict.fromkeys(instance.category for instance in objects)
    unknown = [instance._replace(category=category, unknown=True) for instance in ignored for category in classes]
    return photo._replace(instances=(*unknown, *objects))


def _with_shape(instance: Instance, remarks: Remarks) -> Instance | None:
    """Return an instance with the outline of its box if it has no other; None if it has no box either."""
    if has_area(instance.shape):
        remarks.add(NO_OUTLINE, count=_stray_parts(instance))
        remarks.add(BOX, count=bool(instance.box))
        return instance
    if len(instance.box) != 4 or min(instance.box[2:]) <= 0:
        remarks.add(NO_SHAPE)
        return None
    x, y, width, height = instance.box
    remarks.add(BOX)
    return instance._replace(shape=(corners_of(x, y, x + width, y + height),))


def _stray_parts(instance: Instance) -> int:
    """Return how many outlines of an instance have a point or two, which cover nothing."""
    if isinstance(instance.shape, dict):
        return 0
    return sum(0 < len(outline) < 6 for outline in instance.shape)


def _without_lone_crowds(
    photos: list[AnnotatedPhoto], categories: Mapping[int, str], remarks: Remarks
) -> list[AnnotatedPhoto]:
    """Return the photos with crowds as objects where nothing else shows their category: brushes are exported so."""
    instances = [instance for photo in photos for instance in photo.instances]
    with_objects = {instance.category for instance in instances if instance.is_object}
    crowds = Counter(instance.category for instance in instances if instance.crowd)
    for category, count in crowds.items():
        remarks.add(CROWD if category in with_objects else LONE_CROWD, categories[category], count)
    lone = crowds.keys() - with_objects
    return [_with_crowds_as_objects(photo, lone) for photo in photos] if lone else photos


def _with_crowds_as_objects(photo: AnnotatedPhoto, categories: Set[int]) -> AnnotatedPhoto:
    instances = [i._replace(crowd=False) if i.category in categories else i for i in photo.instances]
    return photo._replace(instances=tuple(instances))


def _check_shows_objects(photos: list[AnnotatedPhoto], annotations: Annotations) -> None:
    """Refuse (UserError) annotations of which nothing is an object, with the lines that say why."""
    lines = annotations.remarks.lines()
    if lines and not any(photo.instances for photo in photos):
        fix = "give the objects outlines or boxes"
        raise UserError(f"{annotations.source}: none of its entries shows an object: {'; '.join(lines)}; {fix}")


def _with_fitting_sizes(annotations: Annotations) -> Annotations:
    """Return annotations with height and width of turned photos exchanged, where outlines tell that they are of those.

    Remarks say which photos that are, and which have outlines beyond their size. UserError: as ``_check_fits``.
    """
    photos = annotations.photos
    beyond = {place: photo for place, photo in enumerate(photos) if not _fits(photo)}
    witness = next((photo for photo in beyond.values() if _fits(_exchanged(photo, annotations))), None)
    if witness is not None:
        photos = _turned_like(witness, annotations)
        beyond = {place: photo for place, photo in beyond.items() if photos[place] == photo}
        changed_or_fitting = [photo for place, photo in enumerate(photos) if place not in beyond]
        _check_fits(changed_or_fitting, witness, annotations.source)
    annotations.remarks.add_named(BEYOND, [photo.name for photo in beyond.values()])
    changed = [new.name for new, old in zip(photos, annotations.photos) if _size(new) != _size(old)]
    annotations.remarks.add_named(EXCHANGED, changed)
    return replace(annotations, photos=photos)


def _turned_like(witness: AnnotatedPhoto, annotations: Annotations) -> tuple[AnnotatedPhoto, ...]:
    """Return the photos, with exchanged sides where they state their size in the same way as the ``witness``."""
    is_upright = _exchanged(witness, annotations).is_upright
    turned = [_exchanged(photo, annotations) for photo in annotations.photos]
    return tuple(new if new.is_upright == is_upright else old for new, old in zip(turned, annotations.photos))


def _fits(photo: AnnotatedPhoto) -> bool:
    """Return whether no outline reaches beyond a photo's size by more than ``CUT``."""
    corners: list[np.ndarray] = []  # (points, 2), y and x
    for instance in photo.instances:
        if isinstance(instance.shape, dict):
            corners.append(np.array([instance.shape["size"]]))
        else:
            corners += [outline.reshape(-1, 2)[:, ::-1] for outline in instance.shape]
    if not corners:
        return True
    limits = (photo.height + CUT, photo.width + CUT)
    return bool((np.concatenate(corners).max(0) <= limits).all())


def _exchanged(photo: AnnotatedPhoto, annotations: Annotations) -> AnnotatedPhoto:
    """Return a photo with height and width exchanged if its EXIF orientation turns it by 90 degrees, else unchanged."""
    try:
        stored, orientation = header_of(annotations.path_of(photo))
    except UserError:
        return photo
    if orientation < 5:  # upright, or upside down
        return photo
    height, width = photo.width, photo.height
    is_upright = (height, width) == upright_size(stored, orientation)
    return photo._replace(height=height, width=width, is_upright=is_upright)


def _check_fits(photos: list[AnnotatedPhoto], witness: AnnotatedPhoto, source: Path) -> None:
    """Refuse (UserError) photos whose outlines do not fit the sizes that the outlines of the ``witness`` tell."""
    for photo in photos:
        if not _fits(photo):
            sizes = (
                f"{photo.name} is not {photo.width} x {photo.height}, "
                f"{witness.name} not {witness.width} x {witness.height}"
            )
            raise UserError(f"{source}: by the outlines {sizes}; export it anew, from upright photos")


def _size(photo: AnnotatedPhoto) -> tuple[int, int]:
    return photo.height, photo.width
