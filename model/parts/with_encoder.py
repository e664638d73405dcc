"""The image encoder of a method: which it takes, its starting weights, and what of it learns."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor, nn

from model.contract import FewShotModel, ModelSettings, ParamGroup, Task
from model.encoders.layouts import describe, encoder_part, load_encoder
from model.encoders.learning import frozen_beside
from model.encoders.needs import ANY_GRIDS, Grids, Needs, problem_of, stride_problem
from model.encoders.registry import spec_of
from model.encoders.settings import EncoderSettings, Learn, build_encoder
from model.encoders.variant import ENCODER_STRIDE, LAST_STAGE, USUAL, EncoderVariant
from model.parts.layers import projection

LOW, MID, HIGH = 2, 3, 4  # encoder stages whose features the methods read: f2, f3, f4


@dataclass
class WithEncoderSettings(ModelSettings):
    """Settings that every model with an encoder has."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)


class WithEncoder(FewShotModel):
    """A model with one image encoder, ``self.encoder``, that starts from weights of the known layouts.

    ``variant`` and ``last_stage`` say which; a subclass builds its other parts, then calls ``freeze``.
    """

    variant: ClassVar[EncoderVariant] = USUAL  # changes to the encoder
    last_stage = LAST_STAGE  # of the encoder
    grids: ClassVar[Grids] = ANY_GRIDS  # how those of the stages have to fit together
    size_rule = (ENCODER_STRIDE, 1)
    encoder_learns: ClassVar[Learn | None] = None  # what learns of it where ``encoder.learn`` is null; None: nothing
    head_group: ClassVar[str] = "head"  # name of the parameters beside the encoder
    settings: Any  # a WithEncoderSettings

    def __init__(self, settings: WithEncoderSettings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, self.last_stage, self.variant)

    def projections(self) -> tuple[nn.Sequential, nn.Sequential]:
        """Return the projections of the middle features of queries and of supports."""
        channels = self.encoder.channels[MID] + self.encoder.channels[LOW]
        return projection(channels), projection(channels)

    @classmethod
    def encoder_changes(cls, settings: Any) -> bool:
        """Return whether the meta stage changes the maps of an image."""
        return bool(settings.encoder.learn or cls.encoder_learns)

    @property
    def learn(self) -> Learn | None:
        """The parts of the encoder that learn in the meta stage, as the settings name them or the method."""
        return self.settings.encoder.learn or self.encoder_learns

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the parts of the encoder that do not learn in the meta stage."""
        learn = self.learn
        yield from [self.encoder] if learn is None else frozen_beside(self.encoder, learn.parts, learn.depthwise)

    def param_groups(self) -> list[ParamGroup]:
        """Return all parts beside the encoder, with one learning rate, and the encoder's that learn."""
        groups = [ParamGroup(self.head_group, self.beside_encoder()), *self.encoder_group()]
        return [group for group in groups if group.params]

    def encoder_group(self) -> list[ParamGroup]:
        """Return the parameters of the encoder that learn, with their learning-rate factor; none: no group."""
        parameters = [p for p in self.encoder.parameters() if p.requires_grad]
        return [ParamGroup("encoder", parameters, self.learn.lr_factor)] if self.learn and parameters else []

    def beside_encoder(self) -> list[nn.Parameter]:
        """Return the learnable parameters of all parts but the encoder."""
        inside = {id(p) for p in self.encoder.parameters()}
        return [p for p in self.parameters() if p.requires_grad and id(p) not in inside]

    @classmethod
    def needs(cls, settings: Any) -> Needs:
        """Return what the method needs of an encoder, with these settings."""
        return Needs((cls.last_stage,), grids=cls.grids, variant=cls.variant)

    @classmethod
    def encoder_problem(cls, settings: Any) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to fix it) if the method does not take an encoder, or not this stride."""
        encoder: EncoderSettings = settings.encoder
        needs = cls.needs(settings)
        problem = problem_of(encoder.backbone, needs)
        if problem is not None:
            return "backbone", f"= {encoder.backbone!r} does not go with {cls.title}: {problem}"
        problem = stride_problem(encoder.output_stride, needs, needs.spec(encoder.backbone))
        return None if problem is None else ("output_stride", problem)

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides: the encoder's rule where it has one, else the method's."""
        return settings.encoder.size_rule(cls.variant.output_stride) or cls.size_rule

    @classmethod
    def takes_any_size(cls, settings: Any) -> bool:
        """Return whether method and encoder both take images of any height and width."""
        return cls.any_size and spec_of(settings.encoder.backbone).any_size

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder from an ImageNet file, or from the encoder within a checkpoint of ours."""
        return load_encoder(self.encoder, encoder_part(state), partial)

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return the encoder of a state dict in words."""
        return describe(state, self.settings.encoder.backbone)
