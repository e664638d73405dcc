"""The plan of photos with annotations in one of the known formats."""

from collections import Counter
from collections.abc import Collection, Sequence, Set
from functools import partial
from pathlib import Path

import numpy as np

from annotations import recognise
from annotations.annotation import AnnotatedPhoto, Annotations, label_of
from datasets.custom_plan import CustomOptions, plan_of, rare_classes, selected_classes
from datasets.recipes.recipe import MaskJob, Piece, Plan
from util.data.lists.index import MANY, MOST
from util.files.errors import UserError, one_line


def from_annotations(options: CustomOptions) -> Plan:
    """Return the plan of the annotated photos of ``--annotations``.

    Class ids follow the order of ``--classes`` if given, else ascending category ids. UserError: a class name is no
    category, or two categories or photos have one name.
    """
    annotations = recognise.read(options.annotations, options.images, unconfirmed=options.unconfirmed)
    category_ids = {name: category for category, name in annotations.categories.items()}
    photo_counts = _photos_of_categories(annotations)
    if options.classes:
        classes = selected_classes(options.classes, category_ids, f"category of {options.annotations}")
    else:
        classes = _shown_classes(annotations, photo_counts)
    rare = rare_classes(options, {name: photo_counts[category_ids[name]] for name in classes})
    classes = [name for name in classes if name not in rare]
    class_ids = {category_ids[name]: class_id for class_id, name in enumerate(classes, 1)}
    photos = []
    for photo in annotations.photos:
        if not photo.stated.isdisjoint(class_ids):
            photos.append((_find_photo(annotations, photo, options), photo))
    _check_known([photo for _, photo in photos], class_ids.keys(), options)
    return plan_of(photos, partial(draw, table=class_ids), classes, options.images)


def _check_known(photos: Sequence[AnnotatedPhoto], categories: Set[int], options: CustomOptions) -> None:
    """Say on which photos nobody has confirmed some category, so that unmarked pixels are unknown.

    UserError: as of an index without background, so that a mask of the whole photo would be right.
    """
    shown = {photo.name: len(_shown_on(photo) & categories) for photo in photos}
    partly = {photo.name: shown[photo.name] for photo in photos if not photo.knows(categories)}
    if not partly or options.unknown_is_background:
        return
    where = f"{len(partly)} photos with a class that nobody confirmed, such as {next(iter(partly))}"
    fix = "confirm it, or say 'Nothing here' of it on the page"
    masks = sum(map(bool, shown.values()))
    counts = [*filter(None, partly.values())]
    if len(counts) > MOST * masks and counts.count(1) > MANY * masks:
        others = "name one class by --classes, or take it as absent by --unknown-is-background"
        raise UserError(f"{options.annotations}: nothing is background on {where}", fix=f"{fix}; or {others}")
    print(one_line(f"unknown (255) beside masks: {where}; {fix}"))


def _shown_on(photo: AnnotatedPhoto) -> set[int]:
    """Return the categories with which a photo is marked other than by unknown regions."""
    return {instance.category for instance in photo.instances if not instance.unknown}


def _shown_classes(annotations: Annotations, shown: Collection[int]) -> list[str]:
    """Return the categories of which a photo shows an object; a line names the others."""
    absent = [name for category, name in annotations.categories.items() if category not in shown]
    if absent:
        print(one_line(f"left out, on no image: {', '.join(absent)}"))
    return [name for category, name in annotations.categories.items() if category in shown]


def _photos_of_categories(annotations: Annotations) -> Counter[int]:
    """Return on how many photos each category is marked other than by unknown regions."""
    return Counter(category for photo in annotations.photos for category in _shown_on(photo))


def _find_photo(annotations: Annotations, photo: AnnotatedPhoto, options: CustomOptions) -> Path:
    """Return the file of a photo; with ``--skip-bad`` one that does not exist stands for a photo that is not found."""
    try:
        return annotations.path_of(photo)
    except UserError:
        if not options.skip_bad:
            raise
        return options.images / photo.name


def draw(job: MaskJob, image: np.ndarray, table: dict[int, int]) -> Piece:
    """Return the mask of a photo's annotations; raises as ``label_of`` does."""
    covered = Counter[int]()
    mask = label_of(job.source, job.photo, table, covered)
    return Piece(mask, covered=tuple(covered.elements()))
