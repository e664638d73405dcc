"""Actions that run the network, fill a visit with examples, or write the download, without the page's library."""

from __future__ import annotations

import functools
import json
import re
import shutil
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from util.data.mini import CLASS_NAMES, JPEG_QUALITY, draw_image
from util.errors import UserError
from util.files import read_json, write_atomically
from util.page.found import FoundPhoto
from util.page.visit import Visit
from util.predict.photos import read_photo
from util.predict.prediction import Prediction
from util.predict.results import FORMATS, Results, facts_of
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED
from util.run.processes import as_user_error

SEED, SIDE = 0, 384  # of the drawings, side in pixels
CLASSES = (1, 2)  # striped disc, dotted star
SUPPORTS = {1: 808, 2: 814}  # class -> number of the drawing that shows it
TO_MARK = 824  # a drawing that the visitor may mark
QUERIES = (819, 826, 823, 825)
MODEL_LOCK = threading.Lock()  # the network serves one visitor at a time, photo by photo
ENDED = threading.Event()  # the page has ended
Progress = Callable[[int, int], None]  # photos done, all photos
ARCHIVE = "predictions.zip"
PHOTOS, RESULTS = "photos", "results"  # folders in the archive


@functools.cache
def drawn(number: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a drawing, RGB (h, w, 3) uint8, and its class indices (h, w) uint8."""
    return draw_image(SEED, number, side)


def load_example(visit: Visit) -> None:
    """Fill a visit with two classes, a support of each, a photo to mark, and photos to segment.

    Raises:
        UserError: the photos cannot be written.
    """
    visit.clear()
    visit.classes = [CLASS_NAMES[number - 1] for number in CLASSES]
    for number, name in zip(CLASSES, visit.classes, strict=True):
        image, mask = drawn(SUPPORTS[number], SIDE)
        visit.keep(name, image, (mask == number).astype(np.uint8), f"example_{SUPPORTS[number]}")
    visit.add_queries([_file(visit, number) for number in QUERIES])


def open_example(visit: Visit) -> None:
    """Open an example photo to mark."""
    visit.open_photo(_file(visit, TO_MARK))


def _file(visit: Visit, number: int) -> Path:
    """Return a drawing as a JPEG file in the folder of a visit."""
    path = visit.folder / f"example_{number}.jpg"
    if not path.exists():
        Image.fromarray(drawn(number, SIDE)[0]).save(path, quality=JPEG_QUALITY)
    return path


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


def write_archive(visit: Visit, chosen: Sequence[str], polygons: bool = False, instances: bool = False) -> Path:
    """Write the results of a visit in some formats, together with the photos, and return the archive's path.

    Args:
        chosen: names of formats; ``png`` are masks, overlays and probabilities.
        polygons: outlines in place of exact masks in COCO's and Label Studio's files.
        instances: each connected part of a class is an object.

    Raises:
        UserError: nothing was segmented, no format is chosen, or the disk is full.
    """
    if not visit.found:
        raise UserError("nothing to download: segment photos first")
    if not chosen or set(chosen) - set(FORMATS):
        raise UserError(f"no format is chosen; choose of {', '.join(FORMATS)}")
    folder = visit.folder / "download"
    shutil.rmtree(folder, ignore_errors=True)
    queries = [folder / PHOTOS / photo.query.name for photo in visit.found]
    results = Results(folder / RESULTS, visit.found[0].names, chosen, None, polygons, instances)
    results.check(queries, False)
    try:
        for query, photo in zip(queries, visit.found, strict=True):
            query.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(photo.query, query)
            facts = {**visit.facts, "threshold": visit.threshold, "corrections": len(photo.marks)}
            results.write(query, photo.prediction(visit.threshold), facts)
        results.write_formats(queries, visit.facts["model"])
        for query in queries:
            _name_in_archive(results.paths(query)[0], query.relative_to(folder))
        results.write_summary({})
        return _zipped(folder, visit.folder / ARCHIVE)
    except OSError as error:
        raise UserError(f"the download cannot be written ({error.strerror}); try again with fewer photos") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _name_in_archive(path: Path, query: Path) -> None:
    """Name the photo in a result by its place in the archive."""
    record = read_json(path, "this result", "make it again")
    write_atomically(path, json.dumps({**record, "query": query.as_posix()}, indent=2) + "\n")


def _zipped(folder: Path, target: Path) -> Path:
    """Write an archive of a folder's files; links become the files that they lead to."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                archive.write(path, path.relative_to(folder))
    return target
