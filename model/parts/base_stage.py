"""The base-learner stage (BAM): encoder and base learner as an ordinary segmentation network, and its settings."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import nn

from model.contract import ParamGroup, Trainable, WithEncoderSettings, learnable
from model.encoders.encoder import Encoder
from model.episode import LabelledImages, Output
from model.parts.base_learner import BaseLearner
from model.parts.loss import mask_loss
from model.tensors.ops import logits_at


@dataclass
class BaseSettings:
    """Settings of the base-learner stage: frozen encoder stages, and the head's learning rate."""

    # number of encoder stages, with the stem, that keep their initial weights in the base stage
    frozen_stages: int = field(default=0, metadata={"low": 0, "high": 5})
    head_lr_factor: float = field(default=10.0, metadata={"low": 0})  # of the base learner; the encoder's is 1


@dataclass
class WithBaseSettings(WithEncoderSettings):
    """Base of the settings of every method with a base learner."""

    base: BaseSettings = field(default_factory=BaseSettings)


class BaseStage(Trainable):
    """The first training stage: encoder, but for its first ``frozen_stages``, and base learner on base classes."""

    def __init__(self, encoder: Encoder, base_learner: BaseLearner, frozen_stages: int, head_lr_factor: float):
        super().__init__()
        self.encoder, self.base_learner = encoder, base_learner
        self.frozen_stages, self.head_lr_factor = frozen_stages, head_lr_factor
        self.requires_grad_(True)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder stages that do not learn."""
        yield from self.encoder.stages()[: self.frozen_stages]

    def param_groups(self) -> list[ParamGroup]:
        """Return the encoder's learnable stages (learning-rate factor 1) and the head (``head_lr_factor``)."""
        encoder = learnable(self.encoder)
        head = ParamGroup("head", list(self.base_learner.parameters()), factor=self.head_lr_factor)
        return [ParamGroup("encoder", encoder), head] if encoder else [head]

    def forward(self, batch: LabelledImages) -> Output:
        """Return logits (B, N + 1, S, S) and in training the cross-entropy ``main``."""
        features = self.encoder(self.encoder.normalise(batch.image))
        last = features.stage[self.encoder.last_stage]
        logits = logits_at(self.base_learner(last), batch.image.shape[-2:])
        losses = {"main": mask_loss(logits, batch.label)} if self.training else {}
        return Output(logits, losses=losses)
