"""Find classes in any photos from a few marked ones: ``Segmenter(checkpoint, supports)(photo).mask``.

A query is sized as the evaluation sizes it (longer side to the network's side, at the top left of a square); each
class's logits come back to the photo's own pixels, and the classes and the background compete there.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.contract import Output
from util.data.datasets import channels_first
from util.data.views import LETTERBOX, to_photo
from util.engine.device import autocast
from util.engine.evaluation import BINARY, FINAL
from util.errors import UserError, nearest
from util.predict.class_embedding import class_embedding
from util.predict.encoded_supports import EncodedClass, encode_supports
from util.predict.load_model import open_model
from util.predict.photos import read_photo
from util.predict.prediction import Prediction
from util.predict.regions import Marking
from util.predict.supports import UNNAMED, Support, by_class, checked_image, checked_name, from_arrays, read_support
from util.predict.tiles import Window, blend_weight, check_tile, windows

BATCH = 4  # views of queries that the network sees together
Photo = str | Path | np.ndarray
Given = str | tuple[np.ndarray, np.ndarray]


class Segmenter:
    """A network and the classes it looks for.

    Args:
        checkpoint: a file of weights; None for a model that learns nothing.
        supports: texts ``[class=]photo:marks`` (see ``util/predict/regions.py``), or pairs of arrays (image, mask).
        name: the class of supports that name none.
        config: YAML file, for checkpoints that carry none.
        overrides: settings to change, ``section.key=value``.
        side: S of the network's input in pixels, default as trained.
        tile: side in photo pixels of overlapping tiles; None takes photos as a whole.
        device: as ``run.device``.
        vectors: a file of word vectors, for names that are no class of the data set.
        output: which of the model's two-channel outputs is the prediction.
        marking: how masks and points of supports are read.

    Raises:
        UserError: anything of it cannot be read or does not fit together.
    """

    def __init__(
        self,
        checkpoint: str | Path | None = None,
        supports: Sequence[Given] = (),
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
    ):
        check_tile(tile)
        self.model = open_model(checkpoint, config, overrides, side, device)
        self.tile, self.output, self.marking = tile, output, marking or Marking()
        self.vectors = None if vectors is None else Path(vectors)
        self.classes: list[EncodedClass] = []
        self.notes: list[str] = []
        texts = [s for s in supports if isinstance(s, str)]
        arrays = [from_arrays(*s) for s in supports if not isinstance(s, str)]
        named = by_class(texts, name)
        own = None if name is None else checked_name(name)
        for called in [*named, *([own] if arrays and own not in named else [])]:
            read = [read_support(s, called, self.marking) for s in named.get(called, [])]
            self.add(called, read + (arrays if called == own else []))

    def add(self, name: str | None, supports: list[Support]) -> None:
        """Look for one more class.

        Raises:
            UserError: no supports, too many or too few for the model, or a class that is there already.
        """
        shown = name or UNNAMED
        if any(c.name == shown for c in self.classes):
            raise UserError(f"{shown}: this class is there already; give it another name")
        meaning = class_embedding(name, self.model.context, self.vectors)
        self.classes.append(encode_supports(shown, meaning, supports, self.model))
        if self.output != FINAL:  # whether there is such an output, an input of zeros tells as well
            self.margins(torch.zeros(1, 3, self.model.view.side, self.model.view.side, device=self.model.device))
        if meaning.note:
            self.notes.append(meaning.note)

    def alike(self) -> Segmenter:
        """Return one with the same network that looks for nothing yet."""
        out = copy.copy(self)
        out.classes, out.notes = [], []
        return out

    def __call__(self, photo: Photo) -> Prediction:
        """Return what is found in one photo: a path, or RGB (H, W, 3) uint8."""
        return next(self.many([photo]))

    def many(self, photos: Iterable[Photo], batch: int = BATCH) -> Iterator[Prediction]:
        """Yield what is found in each photo, in their order; the network sees up to ``batch`` views at a time.

        Raises:
            UserError: there are no classes to look for, or a photo cannot be read.
        """
        if not self.classes:
            raise UserError("no supports: mark the object on at least one photo")
        waiting: list[_Sheet] = []
        views: list[tuple[_Sheet, Window]] = []
        for photo in photos:
            image = checked_image(photo) if isinstance(photo, np.ndarray) else read_photo(Path(photo))
            sheet = _Sheet(image, len(self.classes), self.tile)
            waiting.append(sheet)
            for window in sheet.windows:
                views.append((sheet, window))
                if len(views) >= batch:
                    self._fill(views)
                    views = []
            while waiting and not waiting[0].left:
                yield waiting.pop(0).prediction([c.name for c in self.classes])
        self._fill(views)
        for sheet in waiting:
            yield sheet.prediction([c.name for c in self.classes])

    def _fill(self, views: list[tuple[_Sheet, Window]]) -> None:
        """Run the network over some views and put what it says on their photos."""
        if not views:
            return
        inputs = torch.stack([channels_first(self._sized(sheet.image[window])) for sheet, window in views])
        margins = self.margins(inputs.to(self.model.device)).cpu().numpy()
        for (sheet, window), margin in zip(views, margins, strict=True):
            shape = sheet.image[window].shape[:2]
            sheet.take(window, [to_photo(m, shape, LETTERBOX, LETTERBOX, self.model.view.side) for m in margin])

    def _sized(self, image: np.ndarray) -> np.ndarray:
        return self.model.view.sized(image, np.zeros(image.shape[:2], np.uint8))[0]

    @torch.inference_mode()
    def margins(self, query: Tensor) -> Tensor:
        """Return by how much each class's logit exceeds the background's, (B, n, S, S), for inputs (B, 3, S, S)."""
        network, base_labels = self.model.network, self.model.network.reads_base_labels
        out = []
        for sought in self.classes:
            logits = []
            for batch in sought.batches:
                with autocast(self.model.device, self.model.precision):
                    output = network(sought.episode(query, batch, base_labels))
                logits.append(self._chosen(output).float())
            mean = torch.stack(logits).mean(0)
            out.append(mean[:, 1] - mean[:, 0])
        return torch.stack(out, dim=1)

    def _chosen(self, output: Output) -> Tensor:
        """Return the logits (B, 2, S, S) that are asked for."""
        named = {FINAL: output.logits, **output.extra}
        known = [name for name, logits in named.items() if logits.shape[1] == BINARY]
        if self.output not in known:
            raise UserError(f"--output {self.output}: this model has no such output{nearest(self.output, known)}")
        return named[self.output]


@dataclass
class _Sheet:
    """A photo on which the margins of its views come together."""

    image: np.ndarray

    def __init__(self, image: np.ndarray, classes: int, tile: int | None):
        self.image, self.windows = image, windows(image.shape[:2], tile)
        self.left = len(self.windows)
        self.sum = np.zeros((classes, *image.shape[:2]), np.float32)
        self.weight = np.zeros(image.shape[:2], np.float32)

    def take(self, window: Window, margins: list[np.ndarray]) -> None:
        """Add what a view says, (H', W') for each class."""
        self.left -= 1
        if len(self.windows) == 1:
            self.sum[:] = margins
            return
        weight = blend_weight(margins[0].shape)
        self.weight[window] += weight
        for total, margin in zip(self.sum, margins, strict=True):
            total[window] += weight * margin

    def prediction(self, names: list[str]) -> Prediction:
        """Return what all views together say."""
        margins = self.sum if len(self.windows) == 1 else self.sum / self.weight
        return Prediction.of(self.image, names, margins)
