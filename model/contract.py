"""The contract between engine and methods: what a method declares, and the questions of the engine that it answers.

Shape letters: B episodes, K shots, C channels, H W grid, S image side, N base classes, T text width.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from typing_extensions import Self

from model.decides import Decides
from model.encoders.registry import spec_of
from model.encoders.settings import EncoderSettings
from model.episode import Episode as Episode  # for methods, which import all that they exchange from here
from model.episode import Modality as Modality
from model.episode import Output as Output
from model.episode import Shot as Shot
from model.episode import against_background
from model.published import Layout
from model.registration import Registry


@dataclass
class ModelSettings:
    """Base of every method's settings: the method's name, and what the engine asks before a network exists."""

    # Of the method; two methods may share one class of settings
    name: str = field(default="", kw_only=True, metadata={"decides": Decides.IDENTITY})
    encoder = cast(Any, None)  # a field, an ``EncoderSettings`` where the method has an encoder of this project
    pretraining = cast(Any, None)  # a field where the method has pretrained parts: the data that trained them

    @property
    def reads_names(self) -> bool:
        """Whether class names themselves are read: ``Task.classes``, ``NamedEpisode``."""
        return False

    def encoder_name(self) -> str | None:
        """Return the name of the encoder's architecture, for results and messages."""
        return None if self.encoder is None else self.encoder.backbone

    def sides(self) -> tuple[int, ...] | None:
        """Return the only image sides that the encoder takes; None for all that the method's size rule allows."""
        return None if self.encoder is None else spec_of(self.encoder.backbone).sides

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if a setting does not fit the image side."""
        return None


@dataclass
class WithEncoderSettings(ModelSettings):
    """Base of the settings of every method with an encoder."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)


@dataclass(frozen=True)
class Task:
    """The task that a method is built for; its settings do not depend on it."""

    base_classes: int  # N
    shots: int  # K
    size: int  # S, side of the square input in pixels
    text_width: int  # T, 0 for methods that read no text
    classes: tuple[str, ...] = ()  # names by class id, for methods that read them


@dataclass(frozen=True)
class ParamGroup:
    """Parameters with the same learning-rate factor and optimiser (a key of the stage's ``optimizers``)."""

    name: str
    params: list[nn.Parameter]
    factor: float = 1.0
    optimizer: str = "main"


def learnable(*parts: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of parts that learn."""
    return [p for part in parts for p in part.parameters() if p.requires_grad]


class Trainable(nn.Module):
    """A network that the engine can train; it declares its frozen parts and keeps them in evaluation mode."""

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the parts that never learn; they have no gradients and stay in evaluation mode under ``train()``."""
        return iter(())

    def stored_state(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint: all but those that always come from another file (foundation models)."""
        return self.state_dict()

    def param_groups(self) -> list[ParamGroup]:
        """Return the learnable parameters in groups; by default all in one."""
        params = learnable(self)
        return [ParamGroup("all", params)] if params else []

    def freeze(self) -> None:
        """Exclude the frozen parts from training; ``build_model`` calls it once all parts exist."""
        for part in self.frozen():
            part.requires_grad_(False)
            part.eval()

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of all parts but the frozen ones."""
        super().train(mode)
        self.freeze()
        return self


class FewShotMethod(Trainable):
    """A few-shot segmentation method: ``forward(Episode) -> Output``, and ``forward_classes`` for several classes.

    Subclasses register under the name that ``model.name`` uses (see ``model/registry.py``) and set the class attributes
    below. Their training settings, such as learning rates and episode sampling, are in ``config/model/<name>.yaml``.
    """

    Settings: ClassVar[type[ModelSettings]]
    title: ClassVar[str]  # the method's name in results and messages
    protocol: ClassVar[str] = "symnet"  # of tests, unless a recipe or data set states another
    learns: ClassVar[bool] = True  # False: nothing to train and no checkpoint to test
    reads_base_labels: ClassVar[bool] = False  # whether the method needs Episode.query_base_label
    reads_text: ClassVar[bool] = False  # whether the method needs Episode.text
    # What it reads beside each photo, by name; ``data.modalities`` of a config names the sources
    modalities: ClassVar[Mapping[str, Modality]] = {}
    size_rule: ClassVar[tuple[int, int]] = (1, 0)  # S % first == second
    any_size: ClassVar[bool] = False  # whether the method also takes an EpisodeOfOriginalSizes
    shots_share_weights: ClassVar[bool] = False  # whether one training serves every number of shots
    published: ClassVar[Layout | None] = None  # tensor names of the authors' checkpoints
    # Classes of ``transformers`` whose objects ``__init__`` gets after the task -> their positions in ``weights``.
    pretrained_parts: ClassVar[dict[str, int]] = {}
    licence: ClassVar[str | None] = None  # of the pretrained parts
    encoder: Any  # an ``Encoder``, of methods that have one

    def __init__(self, settings: Any, task: Task):
        super().__init__()
        self.settings, self.task = settings, task

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides that the method takes with these settings, S % step == rest."""
        return cls.size_rule

    @classmethod
    def encoder_problem(cls, settings: Any) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to fix it) if the method does not take an encoder, or not this stride."""
        return None

    @classmethod
    def encoder_changes(cls, settings: Any) -> bool:
        """Return whether the meta stage changes the maps of an image."""
        return False

    @classmethod
    def takes_any_size(cls, settings: Any) -> bool:
        """Return whether the method also takes an EpisodeOfOriginalSizes with these settings."""
        return cls.any_size

    @classmethod
    def sizes_around(cls, size: int, settings: Any) -> tuple[int, int]:
        """Return the nearest image sides that the method takes: one of at most ``size``, and the next larger one."""
        step, rest = cls.rule(settings)
        below = (size - rest) // step * step + rest
        return below, below + step

    @classmethod
    def nearest_side(cls, size: int, settings: Any) -> int | None:
        """Return the nearest image side that the method takes, of ``sizes_around`` or the encoder's; None: no side."""
        step, rest = cls.rule(settings)
        sides = settings.sides() or cls.sizes_around(size, settings)
        follow_rule = [side for side in sides if side > 0 and side % step == rest % step]
        fitting = [side for side in follow_rule if settings.problem(side) is None]
        if size in fitting:
            return size
        return min(fitting, key=lambda side: (abs(side - size), -side), default=None)

    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for n competing classes and background, from an episode for each with the same B queries.

        This is the rule for methods of one class: channel c of the logits (B, n + 1, S, S) is the foreground logit of
        episode c minus its background logit, and channel 0 is 0. A method that compares several classes itself
        overrides it.
        """
        return competing([self(episode) for episode in episodes])

    @classmethod
    def has_base_stage(cls) -> bool:
        """Return whether a base-learner stage precedes the meta stage."""
        return False

    def base_stage(self) -> Trainable:
        """Return the network of the base-learner stage, which shares the method's tensors (``has_base_stage`` only)."""
        raise NotImplementedError

    @property
    def supports_enter_as_queries(self) -> bool:
        """Whether the maps of an image are the same for a query and for a support (``maps`` of ``encode_supports``)."""
        return False

    def encode_supports(
        self,
        image_n3hw: Tensor,
        label_nhw: Tensor,
        maps: Sequence[Any] | None = None,
        modalities: Mapping[str, Tensor] | None = None,
    ) -> list[Any]:
        """Return what is stored of each of n supports, for ``Episode.shots``; [] if the method stores nothing.

        ``forward`` predicts the same with and without it. ``maps`` are the supports' maps from ``encode_queries``: with
        ``supports_enter_as_queries`` the supports need not pass the encoder again.
        """
        return []

    def encode_queries(self, image_n3hw: Tensor) -> list[Any]:
        """Return what is stored of each of n queries, for ``Episode.maps``; [] if the method stores nothing."""
        return []

    def trained_shots(self, state: dict[str, Tensor]) -> int | None:
        """Return the number of shots that a state dict was trained for; None if it serves any number."""
        return None


def competing(outputs: Sequence[Output]) -> Output:
    """Return the output for n classes that compete from that of each, against the background.

    Base logits and pictures are those of the first class.
    """
    first = outputs[0]
    extra = {name: against_background([output.extra[name] for output in outputs]) for name in first.extra}
    logits = against_background([output.logits for output in outputs])
    presence = [output.presence_features for output in outputs if output.presence_features is not None]
    features = torch.cat(presence, dim=1) if presence else None
    return replace(first, logits=logits, extra=extra, presence_features=features)


# Attributes that methods had, and what stands for them
FORMER = {"encode": "encode_supports", "shots_of": "trained_shots", "grids": "in `wants`", "variant": "in `wants`"}


def _whole_and_titled(name: str, cls: type[FewShotMethod]) -> type[FewShotMethod]:
    """Return the class; if another method has its title, as the class it derives from, add the name in brackets.

    TypeError: the class lacks what its base leaves to it, such as ``predict``, or has what no longer says anything.
    """
    stated = {attribute for base in cls.__mro__ for attribute in vars(base)}
    said = [f"{former} is now {new}" for former, new in FORMER.items() if former in stated]
    lacking = {"title", "Settings"} - stated | {*getattr(cls, "__abstractmethods__", ())}
    said += [f"{attribute} is missing" for attribute in sorted(lacking)]
    if "Settings" in stated and "__dataclass_fields__" not in vars(cls.Settings):
        said.append("Settings is not a @dataclass")
    if said:
        raise TypeError(f"{cls.__name__}: {', '.join(said)}; see docs/new_method.md in the repository")
    if any(other.title == cls.title for other in METHODS.values() if other is not cls):
        cls.title = f"{cls.title} ({name})"
    return cls


METHODS = Registry("method", "model.name", _whole_and_titled)
register = METHODS.register
