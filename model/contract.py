"""The contract between engine and models: the questions that a model answers, and the properties that it declares.

Shape letters: B episodes, K shots, C channels, H W grid, S image side, N base classes, T text width.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from typing_extensions import Self

from model.common.published import Layout
from model.encoders.registry import spec_of
from model.episode import CachedFeatures, Episode, Output, against_background
from model.mismatch import ModelMismatch


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with the same learning-rate factor and optimiser (a key of the stage's ``optimizers``)."""

    name: str
    params: list[nn.Parameter]
    factor: float = 1.0
    optimizer: str = "main"


@dataclass
class ModelSettings:
    """Base of every model's settings dataclass: the questions that the engine asks before a network exists."""

    encoder = cast(Any, None)  # a field, an ``EncoderSettings`` where the model has an encoder of this project
    pretraining = cast(Any, None)  # a field where the model has pretrained parts: the data that trained them
    # Keys that a checkpoint must share.
    identity: ClassVar[tuple[str, ...]] = ("encoder.backbone", "encoder.stem", "encoder.output_stride")

    @property
    def reads_names(self) -> bool:
        """Whether class names themselves are read: ``Task.classes``, ``NamedEpisode``."""
        return False

    def backbone(self) -> str | None:
        """Return the name of the encoder's architecture, for results and messages."""
        return None if self.encoder is None else self.encoder.backbone

    def sides(self) -> tuple[int, ...] | None:
        """Return the only image sides that the encoder takes; None for all that the model's size rule allows."""
        return None if self.encoder is None else spec_of(self.encoder.backbone).sides

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if a setting does not fit the image side."""
        return None


@dataclass(frozen=True)
class Task:
    """The task that a model is built for; its settings do not depend on it."""

    base_classes: int  # N
    shots: int  # K
    size: int  # S, side of the square input in pixels
    text_width: int  # T, 0 for models that read no text
    classes: tuple[str, ...] = ()  # names by class id, for models that read them


class Trainable(nn.Module):
    """A network that the engine can train; it declares its frozen parts and keeps them in evaluation mode."""

    norms_frozen = False  # whether ``freeze_norms`` was called

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the parts that never learn; they have no gradients and stay in evaluation mode under ``train()``."""
        return iter(())

    def param_groups(self) -> list[ParamGroup]:
        """Return the learnable parameters in groups; by default all in one."""
        learnable = [p for p in self.parameters() if p.requires_grad]
        return [ParamGroup("all", learnable)] if learnable else []

    def freeze(self) -> None:
        """Exclude the frozen parts from training; a model calls this once its parts exist."""
        for part in self.frozen():
            part.requires_grad_(False)
            part.eval()

    def freeze_norms(self) -> int:
        """Freeze statistics, scale and shift of every batch norm; return how many would have been trained."""
        self.norms_frozen = True
        norms = self._batch_norms()
        trained = 0
        for norm in norms:
            trained += any(p.requires_grad for p in norm.parameters(recurse=False))
            norm.requires_grad_(False)
            norm.eval()
        return trained

    def _batch_norms(self) -> list[_BatchNorm]:
        return [module for module in self.modules() if isinstance(module, _BatchNorm)]

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of all parts but the frozen ones."""
        super().train(mode)
        for part in self.frozen():
            part.eval()
        if self.norms_frozen:
            for norm in self._batch_norms():
                norm.eval()
        return self


class FewShotModel(Trainable):
    """A few-shot segmentation model: ``forward(Episode) -> Output``, and ``forward_classes`` for several classes.

    Subclasses register under the name that ``model.name`` uses (see ``model/registry.py``) and set the class attributes
    below. Their training settings, such as learning rates and episode sampling, are in ``config/model/<name>.yaml``.
    """

    Settings: ClassVar[type[ModelSettings]]
    title: ClassVar[str]  # the method's name in results and messages
    learns: ClassVar[bool] = True  # False: nothing to train and no checkpoint to test
    has_base_stage: ClassVar[bool] = False  # whether a base-learner stage precedes the meta stage
    generalised: ClassVar[bool] = False  # whether it labels base and novel classes at once: model/generalised.py
    reads_base_labels: ClassVar[bool] = False  # whether the model needs Episode.query_base_label
    reads_text: ClassVar[bool] = False  # whether the model needs Episode.text
    size_rule: ClassVar[tuple[int, int]] = (1, 0)  # S % first == second
    any_size: ClassVar[bool] = False  # whether the model also takes an EpisodeOfOriginalSizes
    shots_share_weights: ClassVar[bool] = False  # whether one training serves every number of shots
    shots_in_order: ClassVar[bool] = False  # whether another order of the shots gives another prediction
    masks_supports: ClassVar[bool] = False  # whether cached supports depend on their labels too
    published: ClassVar[Layout | None] = None  # tensor names of the authors' checkpoints
    never_compiled: ClassVar[tuple[str, ...]] = ()  # methods that depend on the data, which torch.compile leaves alone
    cannot_export: ClassVar[str | None] = None  # why no graph of fixed sizes computes the method
    for_materials: ClassVar[bool] = False  # whether materials are segmented by it, on another network's encoder
    for_base_stages: ClassVar[bool] = False  # whether it adds new classes to a base stage alone (``--keep-base``)
    # Classes of ``transformers`` whose networks and tokenizers it takes beside the task: position in ``weights``.
    pretrained_parts: ClassVar[dict[str, int]] = {}
    licence: ClassVar[str | None] = None  # of the pretrained parts
    encoder: Any  # an ``Encoder``, of methods that have one

    def __init__(self, settings: Any, task: Task):
        super().__init__()
        self.settings, self.task = settings, task

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides that the model takes with these settings, S % step == rest."""
        return cls.size_rule

    @classmethod
    def takes_any_size(cls, settings: Any) -> bool:
        """Return whether the model also takes an EpisodeOfOriginalSizes with these settings."""
        return cls.any_size

    @classmethod
    def sizes_around(cls, size: int, settings: Any) -> tuple[int, int]:
        """Return the nearest image sides that the model takes: one of at most ``size``, and the next larger one."""
        step, rest = cls.rule(settings)
        below = (size - rest) // step * step + rest
        return below, below + step

    @classmethod
    def nearest_side(cls, size: int, settings: Any) -> int | None:
        """Return the image side nearest to ``size`` that the model takes, of ``sizes_around``; None for neither."""
        sides = settings.sides()
        around = [s for s in cls.sizes_around(size, settings) if s > 0 and (sides is None or s in sides)]
        fitting = [s for s in around if settings.problem(s) is None]
        return size if size in fitting else min(fitting, key=lambda s: (abs(s - size), -s), default=None)

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for n classes, an episode each with the same B queries, that compete with the background.

        This is the rule for models of one class: channel c of the logits (B, n + 1, S, S) is the foreground logit of
        episode c minus its background logit, and channel 0 is 0. A model that compares several classes itself overrides
        it. ``base_logits`` and ``maps`` are those of the first episode.
        """
        outputs = [self(episode) for episode in self.sharing_queries(episodes)]
        first = outputs[0]
        extra = {}
        for name in first.extra:
            extra[name] = against_background([output.extra[name] for output in outputs])
        logits = against_background([output.logits for output in outputs])
        presence = [output.presence_features for output in outputs if output.presence_features is not None]
        presence_features = torch.cat(presence, 1) if presence else None
        return Output(logits, first.base_logits, extra, first.maps, presence_features=presence_features)

    def sharing_queries(self, episodes: Sequence[Episode]) -> Sequence[Episode]:
        """Return episodes with the same queries so that these are encoded once; one episode stays as it is."""
        if len(episodes) == 1:
            return episodes
        queries = episodes[0].cached_query or [self.cache_query(episodes[0].query)]
        if queries[0] is None:  # this model keeps none
            return episodes
        shared = []
        for episode in episodes:
            supports = episode.shots or self._cached_supports(episode)
            kept = None if supports[0] is None else supports  # None: this model keeps none
            shared.append(replace(episode, cached_query=queries, shots=kept))
        return shared

    def _cached_supports(self, episode: Episode) -> list[Any]:
        """Return the features of an episode's supports, a shot each, item after item."""
        supports = []
        for item in range(len(episode.query)):
            for image, label in episode.supports_of(item):
                supports.append(self.cache_support(image[None, None], label[None, None]))
        return supports

    def base_stage(self) -> Trainable:
        """Return the network of the base-learner stage, which shares this model's tensors (``has_base_stage`` only)."""
        raise NotImplementedError

    @property
    def base_classifier(self) -> nn.Sequential | None:
        """The layers whose last, a 1x1 convolution, tells background and base classes apart; None without any."""
        return None

    def base_features(self, image_b3hw: Tensor) -> Tensor:
        """Return what that last layer sees of images, RGB in 0..255: (B, C, h, w) float32, not negative."""
        raise NotImplementedError

    def encode(self, image_n3hw: Tensor, label_nhw: Tensor | None = None) -> list[Any]:
        """Return what is kept of each of n supports, or without labels of queries; [] if this method keeps nothing."""
        if label_nhw is None:
            return []
        supports = zip(image_n3hw, label_nhw, strict=True)
        kept = [self.cache_support(image[None, None], label[None, None]) for image, label in supports]
        return [] if None in kept else kept

    def cache_support(self, support: Tensor, support_label: Tensor) -> CachedFeatures | None:
        """Return the features of an episode's supports that ``forward`` reuses from ``Episode.shots``.

        Images are (1, K, 3, H, W), labels (1, K, H, W). ``forward`` must predict the same with and without them;
        ``Episode.support`` is filled in both cases.
        """
        return None

    def cache_query(self, query: Tensor) -> CachedFeatures | None:
        """Return features of B queries (B, 3, H, W) for ``Episode.cached_query``; None if the model keeps none.

        Unless ``masks_supports``, they equal those that ``cache_support`` returns for the same image.
        """
        return None

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder from an ImageNet or base-stage state dict; return the names of the unfilled tensors.

        Raises:
            ModelMismatch: the layout is another encoder's, or tensors are missing while ``partial`` is False.
        """
        raise ModelMismatch(f"{type(self).__name__} has no encoder to fill")

    def shots_of(self, state: dict[str, Tensor]) -> int | None:
        """Return the number of shots that a state dict was trained for; None if it serves any number."""
        return None

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return a description of a state dict under this model's names, for messages about weights that do not fit."""
        return f"{len(state)} tensors"


MODELS: dict[str, type[FewShotModel]] = {}  # by ``model.name``


def register(name: str) -> Callable[[type[FewShotModel]], type[FewShotModel]]:
    """Return a class decorator that makes a model available as ``model.name: <name>``."""

    def add(cls: type[FewShotModel]) -> type[FewShotModel]:
        MODELS[name] = cls
        return cls

    return add
