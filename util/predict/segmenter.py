"""Segment classes in any photos, given a few marked photos: ``Segmenter(checkpoint, supports)(photo).mask``.

A query is resized as in the evaluation: its longer side becomes the network's side, and the image lies at the top left
of a square. The logits of each class are resized back to the photo's pixels, where classes and background compete.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.episode import IGNORE, Output
from util.checkpoints.checkpoint import digest_of
from util.data.images.labels import channels_first
from util.data.images.views import LETTERBOX, to_photo
from util.errors import UserError, nearest
from util.evaluate.calibration import Calibration, evidence_of, find_calibration
from util.evaluate.evaluate import FINAL
from util.predict.encoded_class import EncodedClass, class_embedding, encode_supports
from util.predict.load_model import load_model
from util.predict.photos import read_photo
from util.predict.prediction import Decision, Prediction
from util.predict.regions import Marking
from util.predict.supports import (
    UNNAMED,
    AnnotatedSupport,
    Support,
    SupportText,
    check_class_name,
    check_image,
    group_by_class,
    read_support,
    support_from_arrays,
)
from util.predict.tiles import TiledPhoto, Window
from util.run.device import autocast
from util.run.network import check_finite

MAX_CLASSES = IGNORE - 1  # of a mask of 8 bits, beside the background
BATCH = 4  # views of queries in one forward pass
Photo = str | Path | np.ndarray
NAMED_BY_FILE = (str, SupportText, AnnotatedSupport)
GivenSupport = str | SupportText | AnnotatedSupport | tuple[np.ndarray, np.ndarray]


class Segmenter:
    """A network and the classes that it segments.

    Args:
        checkpoint: a file of weights; None for the method of ``config``, else this repository's Pocket.
        supports: texts ``[class=]photo:marks`` (see ``util/predict/regions.py``), pairs of arrays (image, mask), or
            those that ``support_files.supports_in`` returns.
        name: the class of supports that name none.
        config: YAML file, for checkpoints that contain none.
        overrides: settings to change, ``section.key=value``.
        side: S of the network's input in pixels, default as trained.
        tile: side of overlapping tiles in pixels of the photo; None for photos as a whole.
        device: as ``run.device``.
        vectors: a file of word vectors, for names that are not among the data set's classes.
        output: name of the two-channel output that is the prediction.
        marking: how masks and points of supports are read.
        decision: which classes and pixels are shown, where they differ from the calibration's and the method's.

    Raises:
        UserError: a file cannot be read, or the arguments do not fit each other.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        supports: Sequence[GivenSupport] = (),
        name: str | None = None,
        *,
        config: str | Path | None = None,
        overrides: Sequence[str] = (),
        side: int | None = None,
        tile: int | None = None,
        device: str | None = None,
        vectors: str | Path | None = None,
        output: str = FINAL,
        marking: Marking | None = None,
        decision: Decision | None = None,
    ):
        self.model = load_model(checkpoint, config, overrides, side, device)
        if vectors is not None and not self.model.network.reads_text:
            raise UserError(f"--vectors {vectors}: has no effect, {self.model.network.title} reads no text; omit it")
        self.tile, self.output, self.marking = tile, output, marking or Marking()
        self.vectors = None if vectors is None else Path(vectors)
        self.calibration = self.own_calibration()
        self.decision = decision or Decision()
        self.decision.check(self.calibration, self.model.network.title)
        self.classes: list[EncodedClass] = []
        self.notes: list[str] = []
        self.adaptation: dict[str, Any] | None = None  # of ``util/predict/adapt.py``: the models that were compared
        self.presence_by: Segmenter | None = None  # who says whether a photo shows a class; None: this one
        texts = group_by_class((s for s in supports if isinstance(s, NAMED_BY_FILE)), name)
        arrays = [support_from_arrays(*s) for s in supports if not isinstance(s, NAMED_BY_FILE)]
        default = None if name is None else check_class_name(name)
        for class_name in [*texts, *([default] if arrays and default not in texts else [])]:
            read = [read_support(text, class_name, self.marking) for text in texts.get(class_name, [])]
            self.add(class_name, read + (arrays if class_name == default else []))

    def own_calibration(self) -> Calibration | None:
        """Return the calibration of the network's final output; others have none."""
        if self.output != FINAL:
            return None
        digest = digest_of(self.model.network.state_dict())
        return find_calibration(self.model.context.config, self.model.source, digest)

    def add(self, name: str | None, supports: list[Support]) -> None:
        """Add a class to segment.

        Raises:
            UserError: there are no supports, too many or too few for the model, or the class was added before; or there
                are too many classes for a mask of 8 bits.
        """
        shown = name or UNNAMED
        if len(self.classes) == MAX_CLASSES:
            raise UserError(f"{shown}: more than {MAX_CLASSES} classes, too many for masks of 8 bits; predict in parts")
        if any(known.name == shown for known in self.classes):
            raise UserError(f"{shown}: this class was added before; give it another name")
        embedding = class_embedding(name, self.model.context, self.vectors)
        self.classes.append(encode_supports(shown, embedding, supports, self.model))
        if self.output != FINAL:  # a forward pass shows whether the model has such an output
            self.margins(torch.zeros(1, 3, self.model.view.side, self.model.view.side, device=self.model.device))
        if embedding.note:
            self.notes.append(embedding.note)

    def without_classes(self) -> Segmenter:
        """Return a segmenter that shares this network and has no classes yet."""
        out = copy.copy(self)
        out.classes, out.notes = [], []
        return out

    def __call__(self, photo: Photo) -> Prediction:
        """Return the prediction for one photo: a path, or RGB (H, W, 3) uint8."""
        return next(self.many([photo]))

    def many(self, photos: Iterable[Photo], batch: int = BATCH) -> Iterator[Prediction]:
        """Yield the prediction for each photo, in order, with up to ``batch`` views in one forward pass.

        Raises:
            UserError: there are no classes yet, or a photo cannot be read.
        """
        if not self.classes:
            raise UserError("no supports: mark the object on at least one photo")
        pending: list[TiledPhoto] = []
        views: list[tuple[TiledPhoto, Window]] = []
        for given in photos:
            image = check_image(given) if isinstance(given, np.ndarray) else read_photo(Path(given))
            photo = TiledPhoto(image, len(self.classes), self.tile)
            pending.append(photo)
            for window in photo.windows:
                views.append((photo, window))
                if len(views) >= batch:
                    self._run(views)
                    views = []
            while pending and not pending[0].missing:
                yield self._prediction(pending.pop(0))
        self._run(views)
        yield from map(self._prediction, pending)

    def _run(self, views: list[tuple[TiledPhoto, Window]]) -> None:
        """Run the network over some views and add its margins to their photos."""
        if not views:
            return
        inputs = torch.stack([self._network_input(photo.image[window]) for photo, window in views])
        output = self._output(inputs.to(self.model.device))
        margins = self.margins_of(output, self._batches).cpu().numpy()
        evidence = self._evidence_of(output)
        for item, ((photo, window), of_view) in enumerate(zip(views, margins, strict=True)):
            shape = photo.image[window].shape[:2]
            maps = [to_photo(m, shape, LETTERBOX, LETTERBOX, self.model.view.side) for m in of_view]
            photo.add(window, maps, None if evidence is None else evidence[item])

    def _network_input(self, image: np.ndarray) -> Tensor:
        """Return an image (H, W, 3) uint8 as the network's input, (3, S, S) float32."""
        no_label = np.zeros(image.shape[:2], np.uint8)
        return channels_first(self.model.view.sized(image, no_label)[0])

    def _prediction(self, photo: TiledPhoto) -> Prediction:
        margins, presence = photo.blended(), None
        if self.presence_by is not None:
            presence = self.presence_by(photo.image).presence
        elif self.calibration is not None:
            presence = [self._presence(self.calibration, of_class, photo, i) for i, of_class in enumerate(margins)]
        names = [known.name for known in self.classes]
        return Prediction.from_margins(photo.image, names, margins, presence, self.calibration, self.decision)

    @staticmethod
    def _presence(calibration: Calibration, margin_hw: np.ndarray, photo: TiledPhoto, index: int) -> float:
        """Return the largest presence score of a class over the windows of a photo."""
        margin = torch.from_numpy(margin_hw)
        own = [torch.from_numpy(window[index]) for window in photo.evidence]
        each = [evidence_of(margin, numbers) for numbers in own] or [evidence_of(margin, None)]
        return max(calibration.presence(numbers.numpy()) for numbers in each)

    def margins(self, query: Tensor) -> Tensor:
        """Return each class's logit minus the background's, (B, n, S, S) float32, for inputs (B, 3, S, S)."""
        return self.margins_of(self._output(query), self._batches)

    def _evidence_of(self, output: Output) -> np.ndarray | None:
        """Return the model's own numbers on each class (B, n, E), the mean over its batches of supports; None: none."""
        if output.evidence is None:
            return None
        each = output.evidence.float().split(self._batches, dim=1)
        return torch.stack([of_class.mean(1) for of_class in each], dim=1).cpu().numpy()

    @property
    def _batches(self) -> list[int]:
        """The numbers of batches of the classes' supports."""
        return [len(known.support_batches) for known in self.classes]

    @torch.inference_mode()
    def _output(self, query: Tensor) -> Output:
        """Return the network's output for all batches of supports of all classes in a row."""
        network, base_labels = self.model.network, self.model.network.reads_base_labels
        episodes = [known.episode(query, some, base_labels) for known in self.classes for some in known.support_batches]
        with autocast(self.model.device, self.model.precision):
            output = network.forward_classes(episodes)
        check_finite(output)
        return output

    def margins_of(self, output: Output, batches: Sequence[int]) -> Tensor:
        """Return the margins (B, n, S, S) float32 of n classes, each the mean over its batches of supports.

        Args:
            output: of ``forward_classes`` for all batches of all classes in a row; of it, ``self.output`` is taken.
            batches: numbers of batches of the classes.
        """
        by_name = {FINAL: output.logits, **output.extra}
        if self.output not in by_name:
            raise UserError(f"--output {self.output}: this model has no such output{nearest(self.output, by_name)}")
        logits = by_name[self.output].float()
        margins = (logits[:, 1:] - logits[:, :1]).split(list(batches), dim=1)
        return torch.stack([of_class.mean(1) for of_class in margins], dim=1)
