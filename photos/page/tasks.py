"""The two pieces of work that take long: photos are segmented by the examples, and a zip of results is packed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from annotations.recognise import MASKS
from photos.example_files import MAX_SHOTS, read_examples
from photos.examples import by_class
from photos.page.archive import Archive
from photos.page.background import Work
from photos.page.open_photos import counted
from photos.page.photo import EXAMPLES, Photo
from photos.support_check import for_materials, material_hint

if TYPE_CHECKING:
    from photos.page.session import Session

DOWNLOAD = "predictions.zip"  # in the folder of the session


def segmentation(session: Session, photos: list[Photo]) -> Work:
    """Return the work of segmenting those of some photos that are neither fixed nor segmented by these examples."""
    examples, _ = read_examples([f"{MASKS}:{session.out / EXAMPLES}"], shots=MAX_SHOTS)
    examples_of_class = by_class(examples)
    segmenter = session.segmenter.without_classes()
    for name, of_class in examples_of_class.items():
        segmenter.add(name, of_class)
    hint = material_hint(segmenter)
    if session.is_material:
        segmenter = for_materials(segmenter)
    facts = {**segmenter.facts, "instances": False, "inputs": segmenter.digest()}

    def segment(photo: Photo) -> None:
        prediction = segmenter(photo.path)
        with session.lock:
            if not photo.is_fixed:
                photo.take(prediction, facts)

    without_example = [name for name in session.common.classes if name not in examples_of_class]
    notes = [f"{name}: skipped, no photo is an example of it" for name in without_example]
    if hint and not session.is_material:
        notes.append(hint)
    notes += _forget_replaced(session, photos)
    waiting = [photo for photo in photos if not photo.is_fixed and photo.inputs != facts["inputs"]]
    return Work(waiting, segment, session.write_summary, notes + segmenter.notes)


def _forget_replaced(session: Session, photos: list[Photo]) -> list[str]:
    """Remove the results of photos whose files were replaced, and return a note if there are any."""
    replaced = [photo for photo in photos if photo.is_result_outdated]
    for photo in replaced:
        with session.lock:
            photo.forget()
    if not replaced:
        return []
    return [f"{counted(len(replaced), 'photo')} replaced since, such as {replaced[0].name}: segmented anew"]


def packing(session: Session, formats: Sequence[str], photos: list[Photo]) -> Work:
    """Return the work of packing some photos, without those whose files were replaced."""
    archive = Archive(session.file.with_name(DOWNLOAD), formats, session.segmenter.model.title)

    def add(photo: Photo) -> None:
        with session.lock, archive.removed_on_error():
            photo.write()
            archive.add(photo)

    def finish() -> None:
        with archive.removed_on_error():
            if not session.work.is_stopped:
                archive.write()
                session.archive = archive.path
        session.write_summary()

    outdated = [photo for photo in photos if photo.is_outdated]
    notes = [f"{photo.name}: skipped, its file was replaced; press Segment" for photo in outdated]
    current = [photo for photo in photos if photo not in outdated]
    return Work(current, add, finish, notes)
