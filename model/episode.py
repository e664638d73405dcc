"""The data between engine and methods: episodes, what is kept of supports, labelled images, and outputs.

Shape letters: B episodes, K shots, n supports, C channels, H W grid, S image side, N base classes, T text width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from typing_extensions import Self

IGNORE = 255  # label of pixels that are excluded from losses and scores


@dataclass
class Batch:
    """Base of dataclasses whose tensors move between devices together."""

    def to(self, device: torch.device) -> Self:
        """Return the batch with every tensor on ``device`` (asynchronously from pinned memory)."""
        return self.each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """Return the batch in page-locked memory; the data loader calls this."""
        return self.each(Tensor.pin_memory)

    def tensors(self) -> list[Tensor]:
        """Return every tensor, also those in lists, dictionaries and nested batches, in the order of ``each``."""
        out: list[Tensor] = []
        self.each(lambda tensor: out.append(tensor) or tensor)  # type: ignore[func-returns-value]
        return out

    def each(self, change: Callable[[Tensor], Tensor]) -> Self:
        """Return the batch with every tensor changed, also those in lists, dictionaries and nested batches."""

        def apply(value: Any) -> Any:
            if isinstance(value, list):
                return [apply(v) for v in value]
            if isinstance(value, dict):
                return {k: apply(v) for k, v in value.items()}
            if isinstance(value, Batch):
                return value.each(change)
            return change(value) if isinstance(value, Tensor) else value

        return type(self)(**{f.name: apply(getattr(self, f.name)) for f in fields(self) if f.init})

    @property
    def nbytes(self) -> int:
        """The size of its tensors in bytes."""
        return sum(x.nbytes for x in self.tensors())

    def __len__(self) -> int:
        return len(self.tensors()[0])

    def part(self, which: slice) -> Self:
        """Return some of the rows of every tensor, as views."""
        return self.each(lambda x: x[which])

    def split(self, count: int) -> list[Self]:
        """Return the rows in parts of ``count`` each, one after the other."""
        groups = [slice(first, first + count) for first in range(0, len(self), count)]
        return [self.part(group) for group in groups]

    @classmethod
    def join(cls, parts: "Sequence[Self]") -> Self:
        """Return the rows of all parts in one batch; tensors are padded with zeros to the largest of the parts."""
        return cls.joined(parts, _joined)

    @classmethod
    def joined(cls, parts: "Sequence[Self]", join: Callable[[Sequence[Tensor]], Tensor]) -> Self:
        """Return one batch whose tensors are ``join`` of the parts' tensors at the same place."""
        if len(parts) == 1:
            return parts[0]
        of_tensors = zip(*(part.tensors() for part in parts), strict=True)
        joint = iter([join(tensors) for tensors in of_tensors])
        return parts[0].each(lambda _: next(joint))


def _joined(tensors: Sequence[Tensor]) -> Tensor:
    """Return tensors one after the other, the smaller ones with zeros at the end of their further dimensions."""
    shapes = [x.shape[1:] for x in tensors]
    largest = [max(sides) for sides in zip(*shapes, strict=True)]
    return torch.cat([_extended(x, largest) for x in tensors])


def _extended(x: Tensor, sides: Sequence[int]) -> Tensor:
    """Return a tensor with zeros at the end of all dimensions but the first, up to sides of them."""
    if list(x.shape[1:]) == list(sides):
        return x
    added: list[int] = []
    for side, own in zip(reversed(sides), reversed(x.shape[1:]), strict=True):  # the last dimension comes first
        added += [0, side - own]
    return F.pad(x, added)


@dataclass(frozen=True)
class Modality:
    """A map that a method reads beside the photo's colours; it is warped, cut and flipped like the photo."""

    channels: int = 1  # values of each pixel
    nearest: bool = False  # whether pixels are sampled, as labels are, and not interpolated
    padding: float = 0.0  # the value of pixels outside the photo


@dataclass
class Supports(Batch):
    """n supports."""

    image: Tensor  # (n, 3, H, W)
    label: Tensor  # (n, H, W) uint8 in {0, 1, 255}
    modalities: dict[str, Tensor] = field(default_factory=dict)  # those that the method reads, (n, C, H, W) float32


@dataclass
class Episode(Batch):
    """B few-shot tasks: segment the supports' class in the query.

    Pixels are RGB in 0..255, uint8 (training) or float32 (evaluation, where resizing is not rounded).
    """

    query: Tensor  # (B, 3, S, S)
    query_label: Tensor  # (B, S, S) uint8 in {0, 1, 255}
    support: Tensor  # (B, K, 3, S, S)
    support_label: Tensor  # (B, K, S, S) uint8 in {0, 1, 255}
    class_id: Tensor  # (B,) int64, 1-based class of the data set
    base_id: Tensor  # (B,) int64, channel of that class in the base logits; 0 for a novel class
    number: Tensor  # (B,) int64, episode numbers, which seed everything random in the episodes
    query_base_label: Tensor | None = None  # (B, S, S) uint8: base-class ids, 0 elsewhere, 255 ignored
    text: Tensor | None = None  # (B, T) float32, word vectors of the class names
    spared_class: Tensor | None = None  # (B,) int64, base class that plays a novel one; the base learner spares it
    shots: list[Any] | None = None  # the engine's: stored values of B * K supports, or of K that all queries share
    maps: list[Any] | None = None  # the engine's: stored maps of the B queries
    modalities: dict[str, Tensor] = field(default_factory=dict)  # those that the method reads, (B, C, S, S) float32
    support_modalities: list[dict[str, Tensor]] = field(default_factory=list)  # of the K shots; [] without any

    def valid_pixels(self) -> Tensor:
        """Return the number of pixels of the queries that losses count."""
        return (self.query_label != IGNORE).sum()

    @property
    def supports(self) -> list[Supports]:
        """The K shots, of B supports each."""
        fields_of_shots = (self.support, self.support_label)
        images, labels = (x if isinstance(x, list) else x.unbind(1) for x in fields_of_shots)
        modalities = self.support_modalities or [{} for _ in images]
        return [Supports(*shot) for shot in zip(images, labels, modalities, strict=True)]

    def supports_of(self, item: int) -> list[Supports]:
        """Return the supports of one episode of the batch, each by itself."""
        return [shot.part(slice(item, item + 1)) for shot in self.supports]


@dataclass
class EpisodeOfOriginalSizes(Episode):
    """One episode (B = 1) of images of their original sizes, for methods with ``any_size``: a tensor for each shot."""

    support: list[Tensor]  # type: ignore[assignment]  # K of (1, 3, H, W); the query is (1, 3, H, W)
    support_label: list[Tensor]  # type: ignore[assignment]  # K of (1, H, W) uint8 in {0, 1, 255}


@dataclass
class NamedEpisode(Episode):
    """Episodes of one class that the data set need not have, for methods that read names."""

    name: str | None = None


@dataclass
class Shot(Batch):
    """The stored values of n supports: a method adds its tensors, whose first dimension is n.

    ``predict`` gets K shots, each with one support for every query, so there n = B. Tests, photos and calibration
    store shots. If the second dimension is an object's positions, supports with fewer are padded with zeros.
    """

    presence: Tensor | None = field(default=None, kw_only=True)  # inputs of the presence score, (n, C + 3)

    original: "Shot | None" = field(default=None, init=False)  # the stored shot that this one repeats for every query
    shared_result: Any = field(default=None, init=False)  # a ``SharedResult``, whose first shot is this one


@dataclass
class LabelledImages(Batch):
    """B images for ordinary segmentation of the base classes (the base-learner stage)."""

    image: Tensor  # (B, 3, S, S) RGB 0..255
    label: Tensor  # (B, S, S) uint8: base-class ids, 0 elsewhere, 255 ignored

    def valid_pixels(self) -> Tensor:
        """Return the number of pixels that losses count."""
        return (self.label != IGNORE).sum()


@dataclass
class Output(Batch):
    """A method's prediction, the logits of its base learner, further logits, pictures, and in training its losses."""

    logits: Tensor  # (B, 2, S, S); of n classes (B, n + 1, S, S); of the base-learner stage (B, N + 1, S, S)
    base_logits: Tensor | None = None  # (B, N + 1, S, S), the base learner's own; None without a base learner
    extra: dict[str, Tensor] = field(default_factory=dict)  # name -> as ``logits``, scored like the prediction
    pictures: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, h, w) in 0..1, such as a prior; to look at
    losses: dict[str, Tensor] = field(default_factory=dict)  # name -> scalar; the engine minimises their sum
    image_losses: tuple[str, ...] = ()  # those of them that are means over images; others are means over valid pixels
    presence_features: Tensor | None = None  # (B, n, E), whether a query shows each class, beside the logits


def against_background(logits: Sequence[Tensor]) -> Tensor:
    """Return the logits (B, n + 1, S, S) of n classes from those of each against the background, n of (B, 2, S, S)."""
    margins = [each[:, 1] - each[:, 0] for each in logits]
    return torch.stack([torch.zeros_like(margins[0]), *margins], dim=1)
