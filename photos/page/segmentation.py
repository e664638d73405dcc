"""The work of Segment: photos are segmented by the examples of a session."""

import numpy as np

from photos.example_files import MAX_SHOTS
from photos.examples import Support
from photos.page.files import Files
from photos.page.state import Photo, State
from photos.photo_files import read_photo
from photos.segmenter import Segmenter
from util.files.palette import IGNORE

UNSURE = 0.6  # presence score below which a mask is to be looked at first


def is_waiting(photo: Photo, inputs: str) -> bool:
    """Return whether a photo is to be segmented by examples and settings of a digest."""
    return not photo.is_fixed and (photo.found is None or photo.found.inputs != inputs)


def with_examples(segmenter: Segmenter, files: Files, state: State) -> Segmenter:
    """Return the segmenter of the classes that are taught."""
    segmenter = segmenter.without_classes()
    teachers = [photo for photo in state.photos.values() if photo.teaches]
    labels = {photo.name: files.label(state, photo) for photo in teachers}
    for value, name in enumerate(state.classes, 1):
        supports = []
        for photo in [teacher for teacher in teachers if name in teacher.teaches][:MAX_SHOTS]:
            label = labels[photo.name]
            of_class = np.where(label == IGNORE, IGNORE, label == value).astype(np.uint8)
            source = f"{photo.path}:{files.example(photo)[1]}"
            supports.append(Support(read_photo(photo.path), of_class, source))
        if supports:
            segmenter.add(name, supports)
    return segmenter


def found_line(state: State) -> str:
    """Return in how many photos each class was found that was looked for, and which to check first."""
    found: list[str] = []
    results = [photo.found for photo in state.photos.values() if photo.found and photo.found.inputs]
    scores: list[float] = []  # of masks
    for name in state.names:
        looked_at = [result for result in results if name in result.names]
        if not looked_at:
            continue
        shown = [result for result in looked_at if result.share[name] > 0]
        scores += [result.presence[name] or 1.0 for result in shown]
        verb = "shows" if len(looked_at) == 1 else "show"
        among = f"{photos_of(len(looked_at))} {verb} {article(name)} {name}"
        found.append(f"{len(shown)} of {among}" if not found else f"{len(shown)} {article(name)} {name}")
    check = f" (check those below {100 * UNSURE:.0f} % first)" if min(scores, default=1) < UNSURE else ""
    return f"{', '.join(found)}{check}"


def photos_of(number: int) -> str:
    """Return a number of photos in words."""
    return "1 photo" if number == 1 else f"{number} photos"


def article(name: str) -> str:
    """Return the article before a class."""
    return "an" if name[:1].casefold() in "aeiou" else "a"
