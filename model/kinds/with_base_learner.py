"""Models over a frozen encoder and base learner (BAM): their settings, their parts, and the base-learner stage."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from torch import Tensor, nn

from model.contract import ParamGroup, Task, Trainable
from model.encode import Method
from model.encoders.encoder import Encoder
from model.encoders.needs import ONE_GRID
from model.episode import Episode, LabelledImages, Output
from model.parts.base_learner import BaseLearner, Ensemble, ShotWeights, own_class
from model.parts.layers import HEAD_DROPOUT
from model.parts.loss import mask_loss
from model.parts.with_encoder import HIGH, WithEncoderSettings
from model.tensors.ops import logits_at


@dataclass
class BaseSettings:
    """Settings of the base-learner stage: frozen encoder stages, and the head's learning rate."""

    # Encoder stages, stem included, that keep their initial weights in the base stage
    frozen_stages: int = field(default=0, metadata={"low": 0, "high": 5})
    head_lr_factor: float = field(default=10.0, metadata={"low": 0})  # of the base learner, beside the encoder's 1


@dataclass
class WithBaseSettings(WithEncoderSettings):
    """Settings that every model with a base learner has."""

    base: BaseSettings = field(default_factory=BaseSettings)


class BaseStage(Trainable):
    """The first training stage: encoder, but for its first ``frozen_stages``, and base learner on base classes."""

    def __init__(self, encoder: Encoder, base_learner: BaseLearner, frozen_stages: int, head_lr_factor: float):
        super().__init__()
        self.encoder, self.base_learner = encoder, base_learner
        self.frozen_stages, self.head_lr_factor = frozen_stages, head_lr_factor
        self.requires_grad_(True)
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder stages that do not learn."""
        yield from self.encoder.stages()[: self.frozen_stages]

    def param_groups(self) -> list[ParamGroup]:
        """Return the encoder's learnable stages (learning-rate factor 1) and the head (``head_lr_factor``)."""
        encoder = [p for p in self.encoder.parameters() if p.requires_grad]
        head = ParamGroup("head", list(self.base_learner.parameters()), factor=self.head_lr_factor)
        return [ParamGroup("encoder", encoder), head] if encoder else [head]

    def forward(self, batch: LabelledImages) -> Output:
        """Return logits (B, N + 1, S, S) and in training the cross-entropy ``main``."""
        features = self.encoder(self.encoder.normalise(batch.image))
        last = features.stage[self.encoder.last_stage]
        logits = logits_at(self.base_learner(last), batch.image.shape[-2:])
        losses = {"main": mask_loss(logits, batch.label)} if self.training else {}
        return Output(logits, losses=losses)


class OverBaseStage(Method):
    """A model whose encoder and base learner come from a base stage and are frozen."""

    settings: WithBaseSettings
    has_base_stage = True
    reads_base_labels = True
    grids = ONE_GRID

    def __init__(self, settings: WithBaseSettings, task: Task):
        super().__init__(settings, task)
        self.base_learner = BaseLearner(self.encoder.channels[HIGH], task.base_classes)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, whose weights come from the base stage."""
        yield from super().frozen()
        yield self.base_learner

    def base_stage(self) -> Trainable:
        """Return encoder and base learner as an ordinary segmentation network."""
        base = self.settings.base
        return BaseStage(self.encoder, self.base_learner, base.frozen_stages, base.head_lr_factor)

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return the encoder and the number of base classes of a state dict in words."""
        classifier = state.get("base_learner.classify.4.weight")
        classes = "no base learner" if classifier is None else f"a base learner of {len(classifier) - 1} classes"
        return f"{super().describe_weights(state)} and {classes}"


class WithBaseLearner(OverBaseStage):
    """A model that learns a meta learner beside them."""

    head_group = "meta"
    ensemble: Ensemble  # the subclass builds it

    def __init__(self, settings: WithBaseSettings, task: Task, weights_in_shot_order: bool = True):
        super().__init__(settings, task)
        self.project_query, self.project_support = self.projections()
        self.base_dropout = nn.Dropout2d(HEAD_DROPOUT)  # the base head's own, in training though it is frozen
        self.shot_weights = ShotWeights(task.shots, weights_in_shot_order)

    def corrected(self, episode: Episode, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor) -> Output:
        """Return the meta prediction corrected by the base learner's, at the image's size, and training losses."""
        final = self.ensemble(meta_b2hw, base_bnhw, scene_b, own_class(episode, self.training))
        size = episode.query.shape[-2:]
        final, meta, base = (logits_at(x, size) for x in (final, meta_b2hw, base_bnhw))
        output = Output(final, base, extra={"meta": meta})
        if self.training:
            assert episode.query_base_label is not None  # the data set fills it: ``reads_base_labels``
            output.losses = {
                "main": mask_loss(final, episode.query_label),
                "meta": mask_loss(meta, episode.query_label),
                "base": mask_loss(base, episode.query_base_label),
            }
        return output

    def shots_of(self, state: dict[str, Tensor]) -> int | None:
        """Return the number of inputs of the convolution over shots; a model of one shot has none."""
        mix = state.get("shot_weights.mix.0.weight")
        return 1 if mix is None else mix.shape[1]
