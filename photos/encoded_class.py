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

from model.episode import IGNORE, Episode, NamedEpisode
from model.kinds.generalised import Cells, GeneralisedModel, base_logits
from photos.supports import UNNAMED, Support
from util.data.words.vectors import find_row
from util.errors import UserError
from util.loaded import LoadedModel
from util.runtime.context import RunContext


def text_of(name: str | None, context: RunContext, words: Path | None) -> tuple[int, np.ndarray | None, str]:
    """Return what a model reads of a class name: class id, text vector (T,) float32, and a line on its source.

    The id is that of the data set's class of the same name (upper and lower case are equal), else 0. The vector is that
    class's, else that of the word in ``words``, else the mean over the data set's classes; None for models that read
    no text. UserError: ``words``, a file of word vectors, cannot be read, or of another width than the model's.
    """
    data, table = context.config.data, context.vectors
    class_id = _class_id(name, data.classes)
    if table is None:
        lacks_name = name is None and context.config.model.reads_names
        note = "the supports have no class name, so none is read; give --name CLASS" if lacks_name else ""
        return class_id, None, note
    if class_id:
        return class_id, table[class_id], f"{name}: uses the text vector of {data.name}'s class"
    if words is not None and name:
        vector = find_row(words, name)
        if vector is not None:
            _check_width(vector, table.shape[1], words)
            return 0, vector, f"{name}: uses the text vector in {words}"
    if name is None:
        why, fix = "the supports have no class name", "; give --name CLASS"
    elif words is None:
        why, fix = f"{name}: not a class of {data.name}", "; give the name of a class, or --vectors FILE"
    else:
        why, fix = f"{name}: not a class of {data.name} and not a word of {words}", ""
    return 0, table[1:].mean(0), f"{why}, so the mean text vector of {data.name}'s classes is used{fix}"


def _class_id(name: str | None, classes: Sequence[str]) -> int:
    """Return the 1-based id of a class of a data set, whatever its case; 0 for another name, or none."""
    ids = {known.lower(): class_id for class_id, known in enumerate(classes, 1)}
    return 0 if name is None else ids.get(name.lower(), 0)


def _check_width(vector: np.ndarray, width: int, words: Path) -> None:
    if len(vector) != width:
        raise UserError(f"{words}: has vectors of {len(vector)} numbers, this model was trained with {width}")


@dataclass
class SupportBatch:
    """Supports that a model sees together, and what it keeps of them."""

    image: Tensor  # (1, K, 3, S, S) float32
    label: Tensor  # (1, K, S, S) uint8 in {0, 1, 255}
    shots: list[Any]  # of each support; [] for models that keep nothing


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
        text = None
        if self.vector is not None:
            text = torch.from_numpy(self.vector).to(device).expand(count, -1)
        return NamedEpisode(
            query=query,
            query_label=unknown,
            support=supports.image.expand(count, -1, -1, -1, -1),
            support_label=supports.label.expand(count, -1, -1, -1),
            class_id=zero + self.class_id,
            base_id=zero,
            number=zero,
            query_base_label=unknown if base_labels else None,
            text=text,
            shots=supports.shots or None,
            name=None if self.name == UNNAMED else self.name,
        )

    def subset(self, shots: list[int], model: LoadedModel) -> EncodedClass:
        """Return the class with some of its supports by index, not encoded again; errors as ``shots_per_batch``."""
        images, labels = self.images, self.labels
        kept = [shot for batch in self.support_batches for shot in batch.shots]
        batches = list[SupportBatch]()
        for group in torch.tensor(shots).split(shots_per_batch(self.name, len(shots), model)):
            kept_of_group = [kept[shot] for shot in group.tolist()] if kept else []
            batches.append(SupportBatch(images[:, group], labels[:, group], kept_of_group))
        return replace(self, support_batches=batches, sources=[self.sources[shot] for shot in shots])


def encode_class(name: str | None, supports: Sequence[Support], model: LoadedModel, words: Path | None) -> EncodedClass:
    """Return a class of supports, sized as the evaluation does; ``words`` is a file of word vectors.

    UserError: no supports, as ``shots_per_batch`` and ``text_of``, or no marked pixel at the network's input size.
    """
    shown_name = name or UNNAMED
    if not supports:
        raise UserError(f"{shown_name}: no supports; give at least one")
    sized = [model.sized(support.image, support.label) for support in supports]
    for support, (_, label) in zip(supports, sized, strict=True):
        _check_marks(support, label, model.view.side)
    images = torch.stack([image for image, _ in sized])[None].to(model.device)  # (1, K, 3, S, S)
    labels = torch.stack([label for _, label in sized])[None].to(model.device)  # (1, K, S, S)
    class_id, vector, note = text_of(name, model.run.context, words)
    return EncodedClass(
        name=shown_name,
        class_id=class_id,
        vector=vector,
        note=note,
        support_batches=encode_shots(shown_name, images, labels, model),
        sources=[support.source for support in supports],
        share=max(float((support.label != 0).mean()) for support in supports),  # with what is unknown
    )


def _check_marks(support: Support, label: Tensor, side: int) -> None:
    """Refuse (UserError) a support without a marked pixel, or without any in its label at the network's input size."""
    if not (support.label == 1).any():
        raise UserError(f"{support.source}: marks no pixel of the object; give a mask, outlines or box=x0,y0,x1,y1")
    if not (label == 1).any():
        lost = f"its object is lost at {side} pixels, the network's input"
        raise UserError(f"{support.source}: {lost}; crop the photo closer to it, or give a larger --resize")


def encode_shots(name: str, images: Tensor, labels: Tensor, model: LoadedModel) -> list[SupportBatch]:
    """Return the batches of images (1, K, 3, S, S) float32 and labels (1, K, S, S) uint8 of a class, encoded."""
    count = images.shape[1]
    batches = list[SupportBatch]()
    for shots in torch.arange(count).split(shots_per_batch(name, count, model)):
        image, label = images[:, shots], labels[:, shots]
        batches.append(SupportBatch(image, label, model.shots(image[0], label[0])))
    return batches


def shots_per_batch(name: str, supports: int, model: LoadedModel) -> int:
    """Return how many supports of a class the model sees together: all, or one; UserError: another fixed number."""
    trained_shots = model.network.shots_of(model.network.state_dict())
    if trained_shots in (None, 1, supports):
        return 1 if trained_shots == 1 else supports
    trained = f"{model.weights.source} was trained with {trained_shots} shots and its weights accept no other number"
    fix = f"give {trained_shots}, or a checkpoint trained with one shot, for any number"
    raise UserError(f"{name}: {supports} support(s), but {trained}; {fix}")


class BaseClasses:
    """The base classes of a network, which have no supports; UserError: it has none, or not those of its config."""

    def __init__(self, model: LoadedModel):
        network, config = model.network, model.run.config
        if network.base_classifier is None or config.test.trained_on is not None:
            holder = f"{model.weights.source} ({network.title})"
            raise UserError(f"--keep-base: {holder} has no classifier of base classes; name a base stage's best.pth")
        self.model = model
        self.fits = network if isinstance(network, GeneralisedModel) else None  # new classes among the base ones
        self.classes = [
            EncodedClass(config.data.classes[i - 1], i, vector=None, note="", support_batches=[], sources=[])
            for i in model.run.context.fold.base
        ]
        self._fitted: dict[int, Any] = {}  # number of new classes -> what the method fitted to them

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
                if new and len(new) not in self._fitted:
                    self._fitted[len(new)] = self._fit(self.fits, new)
                logits = self.fits.segment(query, valid, self._fitted.get(len(new)))
        return logits[:, 1:] - logits[:, :1]

    def _fit(self, network: GeneralisedModel, new: Sequence[EncodedClass]) -> Any:
        """Fit new classes, numbered after the base ones."""
        shots = list[list[Cells]]()
        for number, encoded in enumerate(new, len(self.classes) + 1):
            of_class: list[Cells] = [shot for batch in encoded.support_batches for shot in batch.shots]
            shots.append([replace(x, label=torch.where(x.label == 1, number, x.label)) for x in of_class])
        return network.fit(shots, [encoded.name for encoded in new])

    def resolve_overlaps(self, margins: np.ndarray, scores: Sequence[float] | None, min_score: float | None) -> None:
        """Let new classes win or yield pixels of base classes, in place, by their presence scores.

        ``margins`` (N + n, H, W) are of the base classes, then of the new ones. Without ``scores``, or with one below
        ``min_score``, a new class wins no pixel.
        """
        base, new = np.split(margins, [len(self.classes)])
        top = base.max(0)
        probability = 1 / (np.exp(-top) + np.exp(base - top).sum(0))  # of the most probable base class
        for margin, score in zip(new, scores or [0.0] * len(new)):
            wins = top <= 0
            if min_score is None or score >= min_score:
                wins |= score > probability
            margin[:] = np.where(wins, margin + np.maximum(top, 0), np.minimum(margin, 0))
