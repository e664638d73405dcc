"""Segment classes in any photos, given a few annotated photos: ``Segmenter({"cup": [(photo, mask)]})(photo).mask``.

Logits of each class are resized back to the photo's pixels, where classes and background compete.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

from photos.calibration import find_calibration, presence_inputs
from photos.encoded_class import EncodedClass, encode_class
from photos.examples import BOXED, UNNAMED, GivenExample, LoadedExample, as_examples, by_class, check_class_name
from photos.prediction import Decision, Prediction
from photos.read_photos import GivenPhoto, photos_in, read_with_facts
from photos.refine import refined
from util.engine import Scores, load_engine
from util.files.errors import UserError
from util.files.progress import ProgressBar

LITTLE = 0.1  # share of a box that is found in it; all of a box with less is the object
Examples = Sequence[GivenExample] | Mapping[str, Sequence[GivenExample]]


class Segmenter:
    """A network with examples of classes, which it finds in photos. Threads may share one; they take turns.

    Args:
        supports: the examples: a list of pairs (photo, annotation), or of texts ``[class=]photo:annotation``; for
            several classes a dictionary of such lists.
        checkpoint: a file of weights; default: those that ``config`` names, or without it this repository's Pocket.
        config: a YAML file, or words such as ``split0 pascal --model insid3``, if the checkpoint contains no config.
        overrides: settings to change, such as ``["run.precision=bf16"]``.
        side: the side of the network's square input in pixels; default as trained.
        device: ``cpu``, ``cuda``, ``cuda:1`` or ``mps``; default: a GPU if there is one.
        decision: ``Decision(min_presence, refine)`` of ``photos/prediction.py``.

    UserError: a file cannot be read, or the arguments do not fit each other.
    """

    def __init__(
        self,
        supports: Examples = (),
        checkpoint: str | Path | None = None,
        *,
        config: str | Path | None = None,
        overrides: Sequence[str] = (),
        side: int | None = None,
        device: str | None = None,
        decision: Decision | None = None,
    ):
        _use_one_thread_in_forks()
        by_name = supports if isinstance(supports, Mapping) else by_class(as_examples(supports))
        self.engine = load_engine(checkpoint, config, overrides=overrides, side=side, device=device)
        decision = decision or Decision()
        self.calibration = find_calibration(self.engine.run.config, self.engine.source, self.engine.digest)
        if self.calibration is not None and decision.min_presence is None:
            decision = replace(decision, min_presence=self.calibration.threshold)
        if self.calibration is None and decision.min_presence is not None:
            raise UserError(
                f"presence score of at least {decision.min_presence:g}: {self.engine.title} has no calibration "
                "for these weights",
                fix="make one: python predict.py calibrate CONFIG",
            )
        self.decision = decision
        self.classes: list[EncodedClass] = []
        self.notes: list[str] = []
        for class_name in ProgressBar(by_name, "encode examples", unit="class", leave=False, delay=1):
            self.add(class_name, by_name[class_name])

    def add(self, name: str | None, supports: Sequence[GivenExample]) -> None:
        """Add a class by its name and all its examples.

        Predictions that other threads have begun do not have it.

        UserError: the examples, or their number, do not fit the method, or the class was added before.
        """
        name = None if name is None else check_class_name(name, "class:")
        examples = [*chain.from_iterable(by_class(as_examples(supports), name).values())]
        bar = ProgressBar(examples, f"read {name or UNNAMED}", unit="example", leave=False, delay=1)
        read = [example.read() for example in bar]
        with self.engine.lock:
            if (name or UNNAMED) in self.names:
                raise UserError(f"{name or UNNAMED}: was added before; give all its examples at once, or another name")
            encoded = encode_class(name, self.boxes_to_masks(name, read), self.engine)
            self.classes.append(encoded)
            outlook = self.engine.outlook(name)
            self.notes += [note for note in (encoded.text.note, outlook) if note and note not in self.notes]

    def boxes_to_masks(self, name: str | None, supports: Sequence[LoadedExample]) -> list[LoadedExample]:
        """Return supports whose boxes are replaced by what the network finds in them, given all supports."""
        filled = [  # all of a box is the object
            replace(support, label=np.where(support.label == BOXED, 1, support.label).astype(np.uint8))
            for support in supports
        ]
        if not any(BOXED in support.label for support in supports):
            return filled
        searcher = self.without_classes()
        searcher.decision = Decision()
        searcher.classes = [encode_class(name, filled, self.engine)]
        return [searcher._search_boxes(support) for support in supports]

    def _search_boxes(self, support: LoadedExample) -> LoadedExample:
        """Return a support whose object is what is found in its boxes; a box in which little is found is the object."""
        in_box = support.label == BOXED
        if not in_box.any():
            return support
        is_found = self(support.image).mask > 0
        count, boxes = cv2.connectedComponents(in_box.astype(np.uint8))
        numbers = boxes.ravel()  # 0 outside of boxes
        shares = np.bincount(numbers, is_found.ravel(), count) / np.bincount(numbers, minlength=count)
        label = np.where(in_box, is_found | (shares < LITTLE)[boxes], support.label)
        return replace(support, label=label.astype(np.uint8))

    def without_classes(self) -> Segmenter:
        """Return a segmenter with this network and without classes."""
        out = copy.copy(self)
        out.classes = []
        out.notes = []
        return out

    def __call__(self, photo: GivenPhoto) -> Prediction:
        """Return the ``Prediction`` for a photo: its path or bytes, a Pillow image, array or tensor."""
        return next(self.many([photo]))

    def many(
        self, photos: str | Path | Iterable[GivenPhoto], batch: int | None = None, unread: dict[Path, str] | None = None
    ) -> Iterator[Prediction]:
        """Yield the ``Prediction`` for each of some photos, or of a folder, with up to ``batch`` in one forward pass.
        A file that cannot be read ends this, or joins the dictionary ``unread``, file -> reason, if you give one.

        UserError: there are no classes yet, or a photo cannot be read.
        """
        if not self.classes:
            raise UserError("no example: annotate the object on at least one photo")
        if isinstance(photos, str | Path):
            photos = photos_in(
                [Path(photos)], examples=chain.from_iterable(encoded.sources for encoded in self.classes)
            )
        now = copy.copy(self)
        now.classes = [*self.classes]  # other threads may add some meanwhile
        reading = _read(photos, unread)
        while read := [*islice(reading, batch or self.engine.views_at_once)]:
            yield from now._predictions(read)

    def _predictions(self, photos: list[tuple[np.ndarray, dict[str, Any], Path | None]]) -> Iterator[Prediction]:
        """Yield the predictions of photos that pass the network together; each comes with its file's facts and path."""
        engine = self.engine
        sized = [engine.sized(image, np.zeros(image.shape[:2], np.uint8)) for image, *_ in photos]
        scores = self.scores(torch.stack([image for image, _ in sized]).to(engine.device))
        maps = scores.margins.cpu().numpy()
        for number, (image, of_file, file) in enumerate(photos):
            margins = np.stack([engine.back(of_class, image.shape[:2]) for of_class in maps[number]])
            features = None if scores.presence_features is None else scores.presence_features[number].cpu()
            yield replace(self._prediction(image, margins, features), photo=file, facts=self.facts | of_file)

    def _prediction(self, image: np.ndarray, margins: np.ndarray, features: Tensor | None) -> Prediction:
        """Return a photo's prediction by its classes' margins (n, H, W) float32 and presence features (n, E)."""
        presence = None
        if self.calibration is not None:
            presence = list[float]()
            for number, margin in enumerate(torch.from_numpy(margins)):
                of_class = None if features is None else features[number]
                presence.append(self.calibration.presence(presence_inputs(margin, of_class).numpy()))
        if self.decision.refine:  # presence was measured before
            margins = refined(image, margins)
        return Prediction.from_margins(
            image,
            self.names,
            margins,
            presence,
            self.calibration,
            decision=self.decision,
        )

    @property
    def names(self) -> list[str]:
        """The classes, in the order of their values in masks."""
        return [encoded.name for encoded in self.classes]

    @property
    def facts(self) -> dict[str, Any]:
        """The entries of the JSON that are the same for every query: method, input, examples, text vectors."""
        engine = self.engine
        return {
            "model": engine.title,
            "checkpoint": engine.source,
            "input": engine.input,
            "precision": engine.precision,
            "calibration": None if self.calibration is None else asdict(self.calibration),
            "decision": asdict(self.decision),
            "settings": engine.settings,
            "supports": {encoded.name: encoded.sources for encoded in self.classes},
            "text": {encoded.name: encoded.text.note for encoded in self.classes if encoded.text.note},
        }

    def digest(self) -> str:
        """Return a digest of settings, weights, and examples as the network sees them; see ``facts``."""
        out = self.engine.decisive_digest()
        for batch in chain.from_iterable(encoded.support_batches for encoded in self.classes):
            out.update(batch.image.cpu().numpy().tobytes())
            out.update(batch.label.cpu().numpy().tobytes())
        return out.hexdigest()

    def scores(self, query: Tensor) -> Scores:
        """Return the scores of the classes, for inputs (B, 3, S, S), each the mean over the batches of its supports.

        Raises as ``Engine.predict`` does.
        """
        asked = [(batch, encoded.text) for encoded in self.classes for batch in encoded.support_batches]
        scores = self.engine.predict(query, asked)
        batches = [len(encoded.support_batches) for encoded in self.classes]
        features = scores.presence_features
        return Scores(_means(scores.margins, batches), None if features is None else _means(features, batches))


@cache
def _use_one_thread_in_forks() -> None:
    """Let torch use one thread in processes forked off this one: they would wait forever for threads that they lack."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=partial(torch.set_num_threads, 1))


def _read(
    photos: Iterable[GivenPhoto], unread: dict[Path, str] | None
) -> Iterator[tuple[np.ndarray, dict[str, Any], Path | None]]:
    """Yield photos (H, W, 3) uint8, each with its file's facts and path; raises as ``Segmenter.many`` does."""
    for given in photos:
        file = Path(given) if isinstance(given, str | Path) else None
        try:
            yield *read_with_facts(given), file
        except UserError as error:
            if unread is None or file is None:
                raise
            unread[file] = str(error)


def _means(values: Tensor, batches: Sequence[int]) -> Tensor:
    """Return the mean over the batches of supports of each class, (B, n, ...), of values (B, batches, ...)."""
    return torch.stack([of_class.mean(1) for of_class in values.split(list(batches), dim=1)], dim=1)
