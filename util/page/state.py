"""All that the user of the page has marked and found: classes, supports, photos to segment, predictions.

Networks differ in how far their probabilities lie apart, so the slider's unit is the standard deviation of the
logarithm of best class over background.
"""

from __future__ import annotations

import itertools
import json
import math
import shutil
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from tqdm import tqdm

from util.data.mini import CLASS_NAMES, JPEG_QUALITY, draw_image
from util.errors import UserError
from util.evaluate.calibration import sigmoid
from util.page.marks import Mark, support_label
from util.page.photo import MAX_CLASSES, THUMBNAIL, Photo, reduced
from util.predict.prediction import EVEN
from util.predict.results import Results
from util.predict.segmenter import Segmenter
from util.predict.supports import UNNAMED, Support, check_class_name, read_photo, support_from_arrays
from util.report.overlay import class_colour, overlay
from util.run.processes import as_user_error

SEED, SIDE = 0, 384  # of the drawings of the example, side in pixels
SUPPORTS = {1: 808, 2: 814}  # class of the drawings (striped disc, dotted star) -> number of the drawing that shows it
TO_MARK, QUERIES = 824, (819, 826, 823, 825)  # drawings
COLUMNS = ("name", "presence", "pixels", "share", "confidence")  # of the table of a result


class State:
    """The state of the page, and the actions of its user; an action returns a note.

    Attributes:
        classes: names, in the order of their values in marks; ``chosen`` is the value of the last one changed.
        open: the photo that is being marked; ``queries``: those to segment, of which ``shown`` is an index.
        level: of the slider of the threshold.
        archive: the download, None where something changed since.
    """

    def __init__(self, segmenter: Segmenter, folder: Path):
        """``folder``: of the page's files."""
        self.segmenter, self.folder = segmenter, folder
        self.keys, self.busy, self.ended = itertools.count(1), threading.Lock(), False
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self.classes, self.chosen, self.level = [UNNAMED], 1, 0.0
        self.supports, self.chosen_support = list[tuple[str, Support]](), None
        self.open: Photo | None = None
        self.queries, self.shown = list[Photo](), 0
        self.facts = dict[str, Any]()
        self.archive: Path | None = None

    def load_example(self) -> None:
        """Take two classes with a drawn support each, a drawing to mark, and drawings to segment."""
        self.clear()
        self.classes = [CLASS_NAMES[value - 1] for value in SUPPORTS]
        for number in (*SUPPORTS.values(), TO_MARK, *QUERIES):
            Image.fromarray(draw_image(SEED, number, SIDE)[0]).save(self._drawing(number), quality=JPEG_QUALITY)
        for (value, number), name in zip(SUPPORTS.items(), self.classes, strict=True):
            image, mask = draw_image(SEED, number, SIDE)
            self._keep(name, image, mask == value, self._drawing(number))
        self.open_photo(self._drawing(TO_MARK))
        self.add_queries([self._drawing(number) for number in QUERIES])

    def _drawing(self, number: int) -> Path:
        return self.folder / f"example_{number}.jpg"

    def take_marks(self, *texts: str) -> None:
        """Take over marks that the browser sends; those on a photo that is no longer here are dropped."""
        for sent in [json.loads(text) for text in texts if text]:
            for photo in [self.open, *self.queries]:
                if photo is not None and photo.key == sent["key"]:
                    photo.marks = [Mark(**mark) for mark in sent["marks"]]

    def add_class(self, name: str) -> None:
        """Add a class."""
        if len(self.classes) >= MAX_CLASSES:
            raise UserError(f"a page has at most {MAX_CLASSES} classes; remove one")
        self.classes.append(self._free_name(name))
        self.chosen = len(self.classes)

    def _free_name(self, name: str) -> str:
        name = check_class_name(name, "the class name")
        if name in self.classes:
            raise UserError(f"{name}: is a class already; give another name")
        return name

    def rename_class(self, value: int, name: str) -> None:
        """Rename a class, and its supports."""
        old, new = self.classes[value - 1], self._free_name(name)
        self.classes[value - 1], self.chosen = new, value
        self.supports = [(new if name == old else name, support) for name, support in self.supports]
        for photo in self.queries:
            photo.names = [new if name == old else name for name in photo.names]

    def remove_class(self, value: int) -> None:
        """Remove a class with its supports and its marks on the open photo."""
        removed = self.classes.pop(value - 1)
        self.classes, self.chosen = self.classes or [UNNAMED], 1
        self.supports = [(name, support) for name, support in self.supports if name != removed]
        if self.open is not None:
            kept = [mark for mark in self.open.marks if mark.value != value]
            self.open.marks = [replace(m, value=m.value - 1) if m.value > value else m for m in kept]
            self.open.key = next(self.keys)

    def open_photo(self, path: str | Path) -> None:
        """Open a photo to mark objects on it."""
        self.open = Photo(next(self.keys), Path(path))

    def keep_marks(self) -> str:
        """Make the marks on the open photo supports, one for each marked class."""
        labels = {}
        if (photo := self.open) is not None:
            labels = {name: support_label(photo.marks, i, photo.shape) for i, name in enumerate(self.classes, 1)}
        marked = {name: label for name, label in labels.items() if (label == 1).any()}
        if photo is None or not marked:
            raise UserError("nothing is marked: upload a photo, then paint over the object, or draw a box or points")
        for name, label in marked.items():
            self._keep(name, read_photo(photo.path), label, photo.path)
        self.open = None
        return f"{len(marked)} support(s) kept"

    def _keep(self, name: str, image: np.ndarray, label: np.ndarray, path: Path) -> None:
        self.supports.append((name, replace(support_from_arrays(image, label), source=path.name)))

    def remove_support(self) -> None:
        """Remove the chosen support, if any."""
        if self.chosen_support is not None:
            del self.supports[self.chosen_support]
        self.chosen_support = None

    def support_pictures(self) -> list[tuple[np.ndarray, str]]:
        """Return a small picture of each support, its object in the colour of its class, and the class."""
        pictures = []
        for name, support in self.supports:
            image, colour = reduced(support.image, THUMBNAIL), class_colour(self.classes.index(name) + 1)
            label = cv2.resize(support.label, image.shape[1::-1], interpolation=cv2.INTER_NEAREST)
            pictures.append((overlay(image, label, colour), name))
        return pictures

    def add_queries(self, paths: Sequence[str | Path]) -> str:
        """Add photos to segment; those before one that cannot be read are added."""
        for path in map(Path, paths):
            if path.stem.casefold() in {query.path.stem.casefold() for query in self.queries}:
                raise UserError(f"{path.name}: a photo of this name is here already; rename it")
            self.queries.append(Photo(next(self.keys), path))
        return f"{len(self.queries)} photo(s) to segment"

    def remove_query(self) -> None:
        """Remove the photo that is shown, and its prediction, if any."""
        del self.queries[self.shown : self.shown + 1]
        self.shown = max(min(self.shown, len(self.queries) - 1), 0)

    def segment(self, chosen: int) -> str:
        """Segment the photos by the supports; marks on the open photo become supports first.

        Corrections of photos that were segmented before remain.
        """
        self.chosen = chosen
        if self.open is not None and self.open.marks:
            self.keep_marks()
        segmenter, notes = self.segmenter.without_classes(), []
        for name in self.classes:
            if supports := [support for of_class, support in self.supports if of_class == name]:
                segmenter.add(None if name == UNNAMED else name, supports)
            else:
                notes.append(f"{name}: left out, because no photo of it is marked")
        self.facts = segmenter.facts
        for query in self.queries:
            query.prediction = None
        for query in tqdm(self.queries, unit="photo", leave=False):
            with self.busy, as_user_error("the photo, --resize or --tile"):
                if self.ended:
                    break
                query.take(next(self.keys), segmenter(read_photo(query.path)), self.folder)
        return "; ".join([f"{len(self.found)} photo(s) segmented", *notes, *segmenter.notes])

    def end(self) -> None:
        """Let the network finish its photo and take no other, so that the process can end."""
        self.ended = True
        with self.busy:
            pass

    @property
    def found(self) -> list[Photo]:
        """The photos that were segmented."""
        return [query for query in self.queries if query.prediction is not None]

    @property
    def result(self) -> Photo | None:
        """The segmented photo that is shown."""
        shown = self.queries[self.shown : self.shown + 1]
        return shown[0] if shown and shown[0].prediction is not None else None

    def table(self) -> list[list[Any]]:
        """Return ``COLUMNS`` of each class of the result."""

        def text(value: Any) -> Any:
            return f"{value:.1%}" if isinstance(value, float) else value

        rows = [] if self.result is None else self.result.corrected(self.threshold).summary()
        return [[text(row[column]) for column in COLUMNS] for row in rows]

    def set_level(self, level: float) -> None:
        """Set the level of the threshold, in units of the spread."""
        self.level = level

    @property
    def threshold(self) -> float:
        """The threshold of all predictions, which ``level`` sets in units of their spread."""
        own = [query.prediction.own_threshold for query in self.queries if query.prediction is not None]
        if not own or self.level == 0:
            return own[0] if own else EVEN
        spread = sum(query.spread for query in self.found) / len(own)
        return sigmoid(math.log(own[0] / (1 - own[0])) + self.level * spread)

    def take_result(self) -> str:
        """Make the corrected mask of the photo that is shown a support of each class in it."""
        if self.result is None:
            raise UserError("no prediction is shown: segment photos first")
        found, before = self.result.corrected(self.threshold), len(self.supports)
        for value, name in enumerate(found.names, 1):
            if name in self.classes and (found.mask == value).any():
                self._keep(name, found.image, found.mask == value, self.result.path)
        return f"{len(self.supports) - before} support(s) kept"

    def pack(self, chosen: Sequence[str]) -> str:
        """Write an archive of the photos and of the results in some formats."""
        if not self.found:
            raise UserError("nothing to download: segment photos first")
        folder = self.folder / "predictions"
        shutil.rmtree(folder, ignore_errors=True)
        results = Results(folder / "results", self.found[0].names, chosen)
        copies = [folder / "photos" / photo.path.name for photo in self.found]
        results.check(copies, False)
        copies[0].parent.mkdir(parents=True)
        for copy, photo in zip(copies, self.found, strict=True):
            shutil.copyfile(photo.path, copy)
            facts = {"query": f"photos/{copy.name}", "threshold": self.threshold, "corrections": len(photo.marks)}
            results.write(copy, photo.corrected(self.threshold), {**self.facts, **facts})
        results.write_formats(copies)
        results.write_summary({})
        archive = Path(shutil.make_archive(str(folder), "zip", folder))
        shutil.rmtree(folder)
        self.archive = archive
        return f"{archive.name} has {archive.stat().st_size / 2**20:.1f} MB"
