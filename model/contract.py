"""What the engine and a model promise each other: the batches that go in, what comes out, what a model declares.

Shape letters: B episodes, K shots, C channels, H W grid, S image side, N base classes, T text width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from model.common.published import Layout

IGNORE = 255  # label of pixels that are neither right nor wrong


class Mismatch(ValueError):
    """Weights or sizes that do not belong to this model; the message says which and what was expected."""


class Batch:
    """A dataclass of tensors that moves as one."""

    def to(self, device: torch.device) -> Batch:
        """Return the batch with every tensor on ``device`` (asynchronously from pinned memory)."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory, as the loader asks for."""
        return self._each(Tensor.pin_memory)

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        """Apply a change to every tensor, also to those in lists (images of different sizes) and in parts."""

        def apply(value: Any) -> Any:
            if isinstance(value, list):
                return [apply(v) for v in value]
            if isinstance(value, dict):
                return {k: apply(v) for k, v in value.items()}
            if isinstance(value, Batch):
                return value._each(change)
            return change(value) if isinstance(value, Tensor) else value

        return type(self)(**{f.name: apply(getattr(self, f.name)) for f in fields(self)})


class CachedFeatures(Protocol):
    """What a model computed of images and need not compute again."""

    @property
    def nbytes(self) -> int:
        """Bytes that its tensors take."""


@dataclass
class Episode(Batch):
    """B few-shot tasks: find the class of the supports in the query.

    Pixels are RGB in 0..255, uint8 (training) or float32 (evaluation, where resizing is not rounded).
    """

    query: Tensor  # (B, 3, S, S)
    query_label: Tensor  # (B, S, S) uint8 in {0, 1, 255}
    support: Tensor  # (B, K, 3, S, S)
    support_label: Tensor  # (B, K, S, S) uint8 in {0, 1, 255}
    class_id: Tensor  # (B,) int64, 1-based class of the data set
    base_id: Tensor  # (B,) int64, channel of that class in the base logits; 0 for a novel class
    number: Tensor  # (B,) int64, episode numbers, the key of everything random about them
    query_base_label: Tensor | None = None  # (B, S, S) uint8, base-class ids, 0 for all else, and 255
    text: Tensor | None = None  # (B, T) float32, word vectors of the class names
    cached_support: list[CachedFeatures] | None = None  # from ``cache_support``: B * K supports, or K that all share
    cached_query: list[CachedFeatures] | None = None  # from ``cache_query``: B queries

    def shots(self, item: int) -> list[tuple[Tensor, Tensor]]:
        """Return the supports of one episode of the batch, as (image (3, H, W), label (H, W))."""
        return list(zip(self.support[item], self.support_label[item]))


@dataclass
class EpisodeOfOriginalSizes(Episode):
    """One episode (B = 1) of images of their original sizes, for models with ``any_size``: a tensor for each shot."""

    support: list[Tensor]  # type: ignore[assignment]  # K of (1, 3, H, W); the query is (1, 3, H, W)
    support_label: list[Tensor]  # type: ignore[assignment]  # K of (1, H, W) uint8 in {0, 1, 255}

    def shots(self, item: int) -> list[tuple[Tensor, Tensor]]:
        """Return the supports of the episode, as (image (3, H, W), label (H, W)); ``item`` is 0."""
        return [(image[item], label[item]) for image, label in zip(self.support, self.support_label)]


@dataclass
class LabelledImages(Batch):
    """B images for ordinary segmentation of the base classes (the base-learner stage)."""

    image: Tensor  # (B, 3, S, S) RGB 0..255
    label: Tensor  # (B, S, S) uint8, base-class ids, 0 for all else, and 255


@dataclass
class Output:
    """A model's prediction, the logits of its base learner, further logits and maps, and in training its losses."""

    logits: Tensor  # (B, 2, S, S); of the base-learner stage (B, N + 1, S, S)
    base_logits: Tensor | None = None  # (B, N + 1, S, S), the base learner's own; None without a base learner
    extra: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, 2, S, S), scored like the prediction
    maps: dict[str, Tensor] = field(default_factory=dict)  # name -> (B, h, w) in 0..1, to be looked at only
    losses: dict[str, Tensor] = field(default_factory=dict)  # name -> scalar; the engine minimises their sum


@dataclass(frozen=True)
class ParamGroup:
    """Parameters that share a learning-rate factor and an optimiser (a key of the stage's ``optimizers``)."""

    name: str
    params: list[nn.Parameter]
    factor: float = 1.0
    optimizer: str = "main"


@dataclass(frozen=True)
class Start:
    """What a model's encoder starts from: a file, a name the model can download, or None for random values.

    ``partial`` accepts weights without some tensors; those start from random values.
    """

    weights: str | None = None
    partial: bool = False


class ModelSettings:
    """Base of every model's dataclass of settings: what the engine may ask before there is a network.

    A model with an ``encoder`` section of keys ``backbone``, ``weights`` and ``partial`` need not override the answers.
    """

    identity: ClassVar[tuple[str, ...]] = ("encoder.backbone", "encoder.stem")  # keys that decide what weights fit

    def start(self) -> Start:
        """Return what the encoder starts from."""
        section = getattr(self, "encoder", None)
        return Start() if section is None else Start(section.weights, section.partial)

    def backbone(self) -> str | None:
        """Return the name of the encoder's architecture, for results and messages."""
        return getattr(getattr(self, "encoder", None), "backbone", None)

    def sides(self) -> tuple[int, ...] | None:
        """Return the only image sides that these settings take; None for all that go with the model's size rule."""
        return None

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to mend it) if a setting does not go with the image side."""
        return None


@dataclass(frozen=True)
class Task:
    """What a model is built for, apart from its own settings."""

    base_classes: int  # N
    shots: int  # K
    size: int  # S, side of the square input in pixels
    text_width: int  # T, 0 where no vectors are read


class Trainable(nn.Module):
    """A network one engine can train: it declares what learns and keeps the rest in evaluation mode."""

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the parts that never learn; they get no gradients and stay in evaluation mode under ``train()``."""
        return iter(())

    def param_groups(self) -> list[ParamGroup]:
        """Return what learns; the default is everything that is not frozen, in one group."""
        learnable = [p for p in self.parameters() if p.requires_grad]
        return [ParamGroup("all", learnable)] if learnable else []

    def freeze(self) -> None:
        """Take the frozen parts out of training; to be called once the parts exist."""
        for part in self.frozen():
            part.requires_grad_(False)
            part.eval()

    def train(self, mode: bool = True) -> Trainable:
        """Switch mode as torch does, frozen parts excepted."""
        super().train(mode)
        for part in self.frozen():
            part.eval()
        return self


class FewShotModel(Trainable):
    """A few-shot segmentation model: ``forward(Episode) -> Output``.

    Subclasses register themselves under the name that ``model.name`` uses (see ``model/registry.py``) and declare what
    they are and need, below. What they cannot know, such as learning rates and how training episodes are drawn, stands
    in their YAML file, ``config/model/<name>.yaml``.
    """

    Settings: ClassVar[type[ModelSettings]]
    title: ClassVar[str]  # the method's name, for people
    learns: ClassVar[bool] = True  # False: nothing to train and no checkpoint to test
    has_base_stage: ClassVar[bool] = False  # whether a base-learner stage comes before the meta stage
    reads_base_labels: ClassVar[bool] = False  # Episode.query_base_label is filled for models that say so
    reads_text: ClassVar[bool] = False  # Episode.text likewise
    size_rule: ClassVar[tuple[int, int]] = (1, 0)  # S % first == second
    any_size: ClassVar[bool] = False  # also takes one episode of images of any heights and widths, shots as lists
    shots_share_weights: ClassVar[bool] = False  # one training serves every number of shots
    masks_supports: ClassVar[bool] = False  # what ``cache_support`` gives depends on the supports' labels too
    published: ClassVar[Layout | None] = None  # tensor names of the authors' checkpoints
    extension: ClassVar[str | None] = None  # model that took over some settings of older configs of this one
    downloads: ClassVar[tuple[str, ...]] = ()  # values of ``Start.weights`` that ``download_encoder`` knows

    def __init__(self, settings: Any, task: Task):
        super().__init__()
        self.settings = settings
        self.task = task

    @classmethod
    def sizes_around(cls, size: int) -> tuple[int, int]:
        """Return the nearest sides the model takes: at most ``size``, and the next larger one."""
        step, rest = cls.size_rule
        below = (size - rest) // step * step + rest
        return below, below + step

    def base_stage(self) -> Trainable:
        """Return the network of the base-learner stage, sharing this model's tensors; only with ``has_base_stage``."""
        raise NotImplementedError

    def cache_support(self, support: Tensor, support_label: Tensor) -> CachedFeatures | None:
        """Return the features of an episode's supports that ``forward`` reuses from ``Episode.cached_support``.

        Images are (1, K, 3, H, W), labels (1, K, H, W). The prediction must stay what it is without;
        ``Episode.support`` is filled all the same. None: nothing is kept.
        """
        return None

    def cache_query(self, query: Tensor) -> CachedFeatures | None:
        """Return what ``forward`` need not compute of a query (1, 3, H, W) again when ``cached_query`` holds it.

        Unless ``masks_supports``, the same as ``cache_support`` gives for that image as a support. None as there.
        """
        return None

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder from an ImageNet or base-stage state dict; return the tensors it did not fill.

        Raises:
            Mismatch: a layout that is not this encoder's, or tensors missing while ``partial`` is False.
        """
        raise Mismatch(f"{type(self).__name__} has no encoder to fill")

    def download_encoder(self, name: str) -> dict[str, Tensor]:
        """Return the weights that one of ``downloads`` names, from the net.

        Raises:
            Mismatch: there are none for this encoder, or they could not be fetched.
        """
        raise Mismatch(f"{type(self).__name__} downloads nothing")

    def shots_of(self, state: dict[str, Tensor]) -> int | None:
        """Return for how many shots a state dict's tensors are made; None where they serve any number."""
        return None

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return in words what a state dict under this model's names holds, for messages when it does not fit."""
        return f"{len(state)} tensors"

    def load_published(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Translate an authors' checkpoint into this model's own names; None when it is not such a layout."""
        return None if self.published is None else self.published.translate(state)
