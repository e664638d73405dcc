"""The classes of a segmenter: those of supports, which are encoded once, and the base classes of the weights.

A model whose weights serve any number of shots, or exactly the given number, sees all supports together. A model
trained for one shot sees each support alone, and the logits are averaged. Other numbers of supports are refused.

With ``--keep-base``, base and new classes share a mask. A network that segments by supports finds the new ones as it
always does; a pixel of a base class becomes one of a new class if the new class's presence score is above the base
class's probability there; without a calibration none does. A method over a base stage alone fits new classes among the
base ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from model.encoders.features import Features
from model.episode import IGNORE, CachedFeatures, Episode, NamedEpisode
from model.generalised import GeneralisedModel, base_logits
from util.data.words.vectors import find_row
from util.errors import UserError
from util.predict.load_model import LoadedModel
from util.predict.supports import UNNAMED, Support
from util.runtime.context import RunContext


def text_of(name: str | None, context: RunContext, words: Path | None) -> tuple[int, np.ndarray | None, str]:
    """Return what a model reads of a class name: class id, text vector (T,) float32, and a line on its source.

    The id is that of the data set's class of the same name (upper and lower case are equal), else 0. The vector is that
    class's, else that of the word in ``words``, else the mean over the data set's classes; None for models that read
    no text. UserError: ``words``, a file of word vectors, cannot be read, or of another width than the model's.
    """
    data, table = context.config.data, context.vectors
    class_id = {known.lower(): i for i, known in enumerate(data.classes, 1)}.get((name or "").lower(), 0)
    if table is None:
        nameless = name is None and context.config.model.reads_names
        return class_id, None, "the supports have no class name, so none is read; give --name CLASS" * nameless
    if class_id:
        return class_id, table[class_id], f"{name}: uses the text vector of {data.name}'s class"
    if words is not None and name and (row := find_row(words, name)) is not None:
        if row.shape != table.shape[1:]:
            raise UserError(f"{words}: has vectors of {len(row)} numbers, this model was trained with {table.shape[1]}")
        return 0, row, f"{name}: uses the text vector in {words}"
    why, fix = f"{name}: not a class of {data.name}", "; give the name of a class, or --vectors FILE"
    if name is None:
        why, fix = "the supports have no class name", "; give --name CLASS"
    elif words is not None:
        why, fix = f"{why} and not a word of {words}", ""
    return 0, table[1:].mean(0), f"{why}, so the mean text vector of {data.name}'s classes is used{fix}"


@dataclass
class SupportBatch:
    """Supports that a model sees together, and the features that it computed of them."""

    image: Tensor  # (1, K, 3, S, S) float32
    label: Tensor  # (1, K, S, S) uint8 in {0, 1, 255}
    cached: CachedFeatures | None  # None for models that cache nothing


@dataclass
class EncodedClass:
    """A class to segment."""

    name: str
    class_id: int  # 1-based id in the model's data set, 0 for a class that the data set lacks
    vector: np.ndarray | None  # text vector, (T,) float32; None for models that read no text
    note: str  # one line on the source of the vector, empty without a vector
    support_batches: list[SupportBatch]
    sources: list[str]  # the files of the supports
    share: float = 0.0  # of the photo that its largest mark covers

    @property
    def images(self) -> Tensor:
        """All supports, (1, K, 3, S, S) float32."""
        return torch.cat([batch.image for batch in self.support_batches], 1)

    @property
    def labels(self) -> Tensor:
        """The labels of all supports, (1, K, S, S) uint8."""
        return torch.cat([batch.label for batch in self.support_batches], 1)

    def episode(self, query: Tensor, supports: SupportBatch, base_labels: bool) -> Episode:
        """Return an episode of B queries (B, 3, S, S) of unknown labels, of base classes too where ``base_labels``."""
        count, device = len(query), query.device
        unknown = torch.full((count, *query.shape[-2:]), IGNORE, dtype=torch.uint8, device=device)
        zero = torch.zeros(count, dtype=torch.int64, device=device)
        return NamedEpisode(
            query=query,
            query_label=unknown,
            support=supports.image.expand(count, -1, -1, -1, -1),
            support_label=supports.label.expand(count, -1, -1, -1),
            class_id=zero + self.class_id,
            base_id=zero,
            number=zero,
            query_base_label=unknown if base_labels else None,
            text=None if self.vector is None else torch.from_numpy(self.vector).to(device).expand(count, -1),
            cached_support=None if supports.cached is None else [supports.cached],
            name=None if self.name == UNNAMED else self.name,
        )

    def some(self, shots: list[int], model: LoadedModel) -> EncodedClass:
        """Return the class with some of its supports by index, not encoded again; errors as ``shots_per_batch``."""
        parts = [batch.cached for batch in self.support_batches if isinstance(batch.cached, Features)]
        known, images, labels = Features.join(parts) if parts else None, self.images, self.labels
        batches = [
            SupportBatch(images[:, group], labels[:, group], None if known is None else known.rows(group))
            for group in torch.tensor(shots).split(shots_per_batch(self.name, len(shots), model))
        ]
        return replace(self, support_batches=batches, sources=[self.sources[i] for i in shots])


def encoded_class(
    name: str | None, supports: Sequence[Support], model: LoadedModel, words: Path | None
) -> EncodedClass:
    """Return a class of supports, sized as the evaluation does; ``words`` is a file of word vectors.

    UserError: no supports, as ``shots_per_batch`` and ``text_of``, or no marked pixel at the network's input size.
    """
    shown, inputs = name or UNNAMED, [model.sized(support.image, support.label) for support in supports]
    if not supports:
        raise UserError(f"{shown}: no supports; give at least one")
    for support, (_, label) in zip(supports, inputs, strict=True):
        if not (support.label == 1).any():
            raise UserError(f"{support.source}: marks no pixel of the object; give a mask, outlines or box=x0,y0,x1,y1")
        if not (label == 1).any():
            lost = f"its object is lost at {model.view.side} pixels, the network's input"
            raise UserError(f"{support.source}: {lost}; crop the photo closer to it, or give a larger --resize")
    images, labels = (torch.stack(kind).unsqueeze(0).to(model.device) for kind in zip(*inputs))  # (1, K, ...)
    text, sources = text_of(name, model.run.context, words), [support.source for support in supports]
    share = max(float((support.label != 0).mean()) for support in supports)  # with what is unknown
    return EncodedClass(shown, *text, encode_shots(shown, images, labels, model), sources, share)


@torch.inference_mode()
def encode_shots(name: str, images: Tensor, labels: Tensor, model: LoadedModel) -> list[SupportBatch]:
    """Return the batches of images (1, K, 3, S, S) float32 and labels (1, K, S, S) uint8 of a class, encoded."""
    batches, count = [], images.shape[1]
    for shots in torch.arange(count).split(shots_per_batch(name, count, model)):
        image, label = images[:, shots], labels[:, shots]
        with model.forward_pass():
            batches.append(SupportBatch(image, label, model.network.cache_support(image, label)))
    return batches


def shots_per_batch(name: str, supports: int, model: LoadedModel) -> int:
    """Return how many supports of a class the model sees together: all, or one; UserError: another fixed number."""
    trained_shots = model.network.shots_of(model.network.state_dict())
    if trained_shots in (None, 1, supports):
        return 1 if trained_shots == 1 else supports
    trained = f"{model.weights.source} was trained with {trained_shots} shots and its weights accept no other number"
    fix = f"give {trained_shots}, or a checkpoint trained with one shot, for any number"
    raise UserError(f"{name}: {supports} support(s), but {trained}; {fix}")


class KeptBase:
    """The base classes of a network, which have no supports; UserError: it has none, or not those of its config."""

    def __init__(self, model: LoadedModel):
        network, data = model.network, model.run.config.data
        if network.base_classifier is None or model.run.config.test.trained_on is not None:
            holder = f"{model.weights.source} ({network.title})"
            raise UserError(f"--keep-base: {holder} has no classifier of base classes; name a base stage's best.pth")
        self.fits = network if isinstance(network, GeneralisedModel) else None  # new classes among the base ones
        self.classes = [EncodedClass(data.classes[i - 1], i, None, "", [], []) for i in model.run.context.fold.base]
        self.model, self._states = model, dict[int, Any]()

    @torch.inference_mode()
    def margins(self, query: Tensor, valid: Tensor, new: Sequence[EncodedClass]) -> Tensor:
        """Return the logits of the base classes minus the background's, (B, N, S, S) float32, for inputs (B, 3, S, S).

        Those of the ``new`` classes follow if the network fits them, once for each number of them. ``valid`` (B, S, S)
        bool is False in the padding. ModelMismatch: an object covers too few cells.
        """
        with self.model.forward_pass():
            if self.fits is None:
                logits = base_logits(self.model.network, query)
            else:
                if new and len(new) not in self._states:
                    first = len(self.classes) + 1
                    labels = [torch.where(c.labels[0] == 1, i, c.labels[0]) for i, c in enumerate(new, first)]
                    images, names = zip(*((known.images[0], known.name) for known in new))
                    self._states[len(new)] = self.fits.fit(images, labels, names)
                logits = self.fits.predict(query, valid, self._states.get(len(new)))
        return logits[:, 1:] - logits[:, :1]

    def settle(self, margins: np.ndarray, scores: Sequence[float] | None) -> None:
        """Let new classes win or yield pixels of base classes, in place, by their presence scores.

        ``margins`` (N + n, H, W) are of the base classes, then of the new ones; without ``scores`` none wins a pixel.
        """
        base, new = np.split(margins, [len(self.classes)])
        top = base.max(0)
        of_base = 1 / (np.exp(-top) + np.exp(base - top).sum(0))
        for one, score in zip(new, scores or [0.0] * len(new)):
            one[:] = np.where((top <= 0) | (score > of_base), one + np.maximum(top, 0), np.minimum(one, 0))
