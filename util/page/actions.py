"""Actions of the page that run the network or change several parts of a visit, without the page's library."""

from __future__ import annotations

import re
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from util.errors import UserError
from util.page.found import FoundPhoto
from util.page.visit import Visit
from util.predict.photos import read_photo
from util.predict.prediction import Prediction
from util.predict.results import facts_of
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED
from util.run.errors import as_user_error

MODEL_LOCK = threading.Lock()  # the network serves one visitor at a time, photo by photo
ENDED = threading.Event()  # the page has ended
Progress = Callable[[int, int], None]  # photos done, all photos


def segment(visit: Visit, segmenter: Segmenter, progress: Progress = lambda done, total: None) -> list[str]:
    """Segment the photos of a visit by its supports, and return notes for the visitor.

    Marks on the open photo become supports first. Corrections of photos that were segmented before remain.

    Raises:
        UserError: there are no supports or photos, or the model does not take them.
    """
    if visit.open is not None and visit.open.marks:
        visit.keep_marks()
    supports = {name: [kept.support for kept in visit.supports if kept.name == name] for name in visit.classes}
    unmarked = [name for name, of_class in supports.items() if not of_class]
    if len(unmarked) == len(supports):
        raise UserError("no marked photo: upload a photo of the object, mark it, or load the example")
    if not visit.queries:
        raise UserError("no photos to segment: upload some, or load the example")
    notes = [f"{name}: left out, because no photo of it is marked" for name in unmarked]
    with MODEL_LOCK:
        mine = segmenter.without_classes()
        for name, of_class in supports.items():
            if of_class:
                mine.add(None if name == UNNAMED else name, of_class)
    folder = visit.folder / "found"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    earlier = [query.found for query in visit.queries]
    for query in visit.queries:
        query.found = None
    for number, query in enumerate(visit.queries):
        progress(number, len(visit.queries))
        image = read_photo(query.path)
        try:
            query.found = FoundPhoto(next(visit.keys), query.path, _predicted(mine, image), folder)
            if (before := earlier[number]) is not None:
                query.found.take_corrections(before)
        except OSError as error:
            raise UserError(f"the server cannot keep the results ({error.strerror}); try again later") from None
    visit.facts = facts_of(mine)
    return notes + mine.notes


def _predicted(segmenter: Segmenter, image: np.ndarray) -> Prediction:
    with MODEL_LOCK, as_user_error("the photo, --resize or --tile"):
        if ENDED.is_set():
            raise UserError("the page has ended")
        return segmenter(image)


def end() -> None:
    """Let the network finish its photo and take no other, so that the process can end."""
    ENDED.set()
    with MODEL_LOCK:
        pass


def take_as_supports(visit: Visit) -> int:
    """Make the corrected mask of the photo that is shown a support of each class in it; return how many.

    Raises:
        UserError: no prediction is shown, the mask is empty, or a class was removed meanwhile.
    """
    if (photo := visit.shown_photo()) is None:
        raise UserError("no prediction is shown: segment photos first")
    mask, image = photo.mask(visit.threshold), read_photo(photo.query)
    taken = 0
    for value, name in enumerate(photo.names, 1):
        if name in visit.classes and (mask == value).any():
            visit.keep(name, image, (mask == value).astype(np.uint8), photo.query.name)
            taken += 1
    if not taken:
        raise UserError(f"{photo.query.name}: no pixel of a class is in its mask; correct it with the brush first")
    return taken


def message_of(text: str, root: Path) -> str:
    """Return a message with files of the page's temporary folder by their names alone."""
    return re.sub(rf"{re.escape(str(root))}(/[\w.-]+)*/", "", text)
