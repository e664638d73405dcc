"""The meaning of annotations in any format: which entries mark objects, and on the stored or the upright photo."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from annotations.annotation import AnnotatedPhoto, Annotations, Instance
from annotations.mask_names import check_names
from annotations.pictures import header_of
from annotations.shapes import end_of, with_area
from annotations.words import BACKGROUND, is_unknown
from util.files.errors import UserError, note

MARGIN = 2  # pixels by which outlines may reach beyond a photo without a word


def interpret(annotations: Annotations) -> Annotations:
    """Return the entries that mark objects; lines say what does not, and what was decided.

    Regions whose name says so (``is_unknown``) are unknown for all classes of the photo, those of ``BACKGROUND`` are
    left out. Outlines beyond a turned photo's stated size tell that sizes are of its other form.

    UserError: nothing marks an object, or two names are equal but for case.
    """
    categories = annotations.categories
    photos = [_with_meaning(photo, categories, annotations.remarks) for photo in annotations.photos]
    marked = {instance.category for photo in photos for instance in photo.instances}
    check_names([categories[number] for number in sorted(marked)], annotations.source)
    classes = {
        number: name
        for number, name in categories.items()
        if name.casefold() not in BACKGROUND and not is_unknown(name)
    }
    meaning = _with_fitting_sizes(replace(annotations, photos=photos, categories=classes))
    for what, counts in annotations.remarks.items():
        if counts.total():
            note(f"{annotations.source}: {what} ({counts.total()}), see {max(counts, key=counts.__getitem__)}")
    if not marked:
        raise UserError(
            f"{annotations.source}: none of its entries shows an object",
            fix="outline or box the objects, or take those that a note above leaves out",
        )
    return meaning


def _with_meaning(
    photo: AnnotatedPhoto, categories: Mapping[int, str], remarks: dict[str, Counter[str]]
) -> AnnotatedPhoto:
    """Return a photo with unknown regions for all of its classes, without background and what has no area."""
    objects: list[Instance] = []
    ignored: list[Instance] = []
    for instance in photo.instances:
        name = categories[instance.category]
        if not with_area(instance.shape):
            remarks["left out: objects that cover no area"][photo.name] += 1
        elif name.casefold() in BACKGROUND:
            remarks[f"left out: regions of {name}"][photo.name] += 1
        elif is_unknown(name):
            remarks[f"unknown (255): regions of {name}"][photo.name] += 1
            ignored.append(instance)
        else:
            objects.append(instance)
            remarks["read as boxes, upright or turned: objects that have no other outline"][photo.name] += (
                instance.is_boxed
            )
            remarks[f"unknown (255): regions of {name}"][photo.name] += instance.unknown
    classes = dict.fromkeys(instance.category for instance in objects)
    unknown = [instance._replace(category=category, unknown=True) for instance in ignored for category in classes]
    return photo._replace(instances=(*unknown, *objects))


def _with_fitting_sizes(annotations: Annotations) -> Annotations:
    """Return annotations with height and width of turned photos exchanged, where the outlines of one tell so.

    Then they are exchanged of all turned photos that state their size in the same way. Remarks say which photos that
    are, and which have outlines beyond their size.
    """
    photos = annotations.photos
    others = [_exchanged(photo, annotations) for photo in photos if not _fits(photo)]
    witness = next(filter(_fits, others), None)
    if witness is not None:
        turned = [_exchanged(photo, annotations) for photo in photos]
        photos = [new if new.is_upright == witness.is_upright else old for new, old in zip(turned, photos)]
    beyond = "photos with outlines or boxes that reach outside, beyond their stated size"
    exchanged = f"height and width exchanged: those with an EXIF orientation, because of {beyond}"
    for new, old in zip(photos, annotations.photos, strict=True):
        annotations.remarks[f"cut at the photo's edges: {beyond}"][new.name] += not _fits(new)
        annotations.remarks[exchanged][new.name] += new.height != old.height
    return replace(annotations, photos=photos)


def _fits(photo: AnnotatedPhoto) -> bool:
    """Return whether no outline reaches beyond a photo's size by more than ``MARGIN``."""
    ends = [end_of(instance.shape) for instance in photo.instances]
    return not (np.reshape(ends, (-1, 2)) > (photo.width + MARGIN, photo.height + MARGIN)).any()


def _exchanged(photo: AnnotatedPhoto, annotations: Annotations) -> AnnotatedPhoto:
    """Return a photo with height and width exchanged if its EXIF orientation turns it by 90 degrees, else unchanged."""
    try:
        frame = header_of(annotations.path_of(photo))
    except UserError:
        return photo
    if frame.orientation < 5:  # upright, or upside down
        return photo
    height, width = photo.width, photo.height
    return photo._replace(height=height, width=width, is_upright=(height, width) == frame.upright_size)
