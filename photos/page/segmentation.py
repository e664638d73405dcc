"""The work of Segment: photos are segmented by the examples of a session."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from photos.example_files import MAX_SHOTS
from photos.examples import Support
from photos.page.background import Work
from photos.page.files import Files
from photos.page.state import Found, Photo, State, forget
from photos.page.writer import WrittenState
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
    scores: list[float] = []  # of masks
    for name, results in _results_by_class(state).items():
        shown = [result for result in results if result.share[name] > 0]
        scores += [result.presence[name] or 1.0 for result in shown]
        verb = "shows" if len(results) == 1 else "show"
        photos = "" if found else f"of {photos_of(len(results))} {verb} "
        found.append(f"{len(shown)} {photos}{article(name)} {name}")
    check = f" (check those below {100 * UNSURE:.0f} % first)" if min(scores, default=1) < UNSURE else ""
    return f"{', '.join(found)}{check}"


def _results_by_class(state: State) -> dict[str, list[Found]]:
    """Return the network's results on each class that it has looked for."""
    results = [photo.found for photo in state.photos.values() if photo.found and photo.found.inputs]
    by_class = {name: [result for result in results if name in result.share] for name in state.names}
    return {name: of_class for name, of_class in by_class.items() if of_class}


def photos_of(number: int) -> str:
    """Return a number of photos in words."""
    return "1 photo" if number == 1 else f"{number} photos"


def article(name: str) -> str:
    """Return the article before a class."""
    return "an" if name[:1].casefold() in "aeiou" else "a"


def segmentation(session: WrittenState, photos: Sequence[str]) -> Work:
    """Return the work of segmenting those of some photos that are neither fixed nor segmented by these examples."""
    with session.lock:
        state = session.state
        segmenter = with_examples(session.segmenter, session.files, state)
    facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}

    def segment(name: str) -> None:
        prediction = segmenter(Path(state.photos[name].path))
        with session.lock:
            photo = session.state.photos.get(name)
            if photo is not None and not photo.is_fixed:
                session.take_result(photo, prediction, facts)

    def finish(done: int, errors: list[str]) -> str:
        session.write_summary()
        lines = _lines_on(session, len(waiting), done - len(errors))
        return "; ".join([*lines, *notes, *errors[:3]])

    notes = [f"{name}: skipped, no photo is an example of it" for name in state.names if state.needs_example(name)]
    notes += _forget_replaced(session, photos)
    now = session.state.photos  # of which some may have been removed since
    waiting = [name for name in photos if name in now and is_waiting(now[name], facts["inputs"])]
    return Work(waiting, segment, finish)


def _lines_on(session: WrittenState, waiting: int, done: int) -> list[str]:
    """Return lines on what was found, given how many photos were waiting and how many are done."""
    if not waiting:
        return ["no photo is left to be segmented"]
    lines = [found_line(session.state)]
    if done < waiting:
        lines.append(f"{done} of {waiting} photos segmented")
    return lines


def _forget_replaced(session: WrittenState, photos: Sequence[str]) -> list[str]:
    """Remove the results of photos whose files were replaced, and return a note if there are any."""
    known = session.state.photos
    is_outdated = session.files.is_outdated
    replaced = [name for name in photos if name in known and is_outdated(known[name], of_example=False)]
    if not replaced:
        return []
    with session.lock:
        session.take(forget(session.state, {*replaced}))
    return [f"{photos_of(len(replaced))} replaced since, such as {replaced[0]}: segmented anew"]
