"""Base classes of models over a frozen encoder and base learner (BAM): base stage, projections, shot weights."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from model.common.base_learner import BaseLearner, BaseStage
from model.common.ensemble import Ensemble, ShotWeights
from model.common.layers import projection
from model.common.loss import mask_loss
from model.common.ops import resize
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder, WithEncoderSettings
from model.contract import ParamGroup, Task, Trainable
from model.encoders.encoder import ENCODER_STRIDE
from model.encoders.features import Features
from model.encoders.layouts import describe
from model.encoders.registry import ONE_GRID
from model.encoders.settings import build_encoder
from model.episode import Episode, Output

BASE_HIDDEN = "base_hidden"  # the base learner's h5 among the maps that are kept beside an image's features


@dataclass
class BaseSettings:
    """Settings of the base-learner stage: frozen encoder stages, and the head's learning rate."""

    frozen_stages: int = field(default=0, metadata={"low": 0, "high": 5})
    head_lr_factor: float = field(default=10.0, metadata={"low": 0})


@dataclass
class WithBaseSettings(WithEncoderSettings):
    """Settings that every model with a base learner has."""

    base: BaseSettings = field(default_factory=BaseSettings)


class OverBaseStage(WithEncoder):
    """A model whose encoder and base learner come from a base stage and are frozen."""

    settings: WithBaseSettings
    has_base_stage = True
    reads_base_labels = True
    grids = ONE_GRID
    size_rule = (ENCODER_STRIDE, 1)

    def __init__(self, settings: WithBaseSettings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder)
        self.base_learner = BaseLearner(self.encoder.channels[HIGH], task.base_classes)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, whose weights come from the base stage."""
        yield from super().frozen()
        yield self.base_learner

    def base_stage(self) -> Trainable:
        """Return encoder and base learner as an ordinary segmentation network."""
        base = self.settings.base
        return BaseStage(self.encoder, self.base_learner, base.frozen_stages, base.head_lr_factor)

    @property
    def base_classifier(self) -> nn.Sequential:
        """The base learner's."""
        return self.base_learner.classify

    @torch.no_grad()
    def base_features(self, image_b3hw: Tensor) -> Tensor:
        """Return relu(h5)."""
        encoded = self.encode_images(self.encoder.normalise(image_b3hw))
        return self.base_learner.hidden(encoded.stage[HIGH]).relu().float()

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return the encoder and the number of base classes of a state dict in words."""
        classifier = state.get("base_learner.classify.4.weight")
        classes = "no base learner" if classifier is None else f"a base learner of {len(classifier) - 1} classes"
        return f"{describe(state, self.settings.encoder.backbone)} and {classes}"


class WithBaseLearner(OverBaseStage):
    """A model that learns a meta learner beside them."""

    ensemble: Ensemble  # the subclass builds it

    def __init__(self, settings: WithBaseSettings, task: Task, weights_in_shot_order: bool = True):
        super().__init__(settings, task)
        channels = self.encoder.channels
        self.project_query = projection(channels[MID] + channels[LOW])
        self.project_support = projection(channels[MID] + channels[LOW])
        self.shot_weights = ShotWeights(task.shots, weights_in_shot_order)

    def param_groups(self) -> list[ParamGroup]:
        """Return everything but encoder and base learner, with one learning rate."""
        return [ParamGroup("meta", self.beside_encoder()), *self.encoder_group()]

    def query_hidden(self, episode: Episode, query: Features) -> Tensor:
        """Return the base learner's map h5 of the queries, (B, 512, h, w); a test computes it once for kept ones."""
        if episode.cached_query is None or self.training:
            return self.base_learner.hidden(query.stage[HIGH])
        kept = cast("list[Features]", episode.cached_query)
        for features in kept:
            if BASE_HIDDEN not in features.derived:
                features.derived[BASE_HIDDEN] = self.base_learner.hidden(features.stage[HIGH])
        return torch.cat([features.derived[BASE_HIDDEN] for features in kept])

    def corrected(self, episode: Episode, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor) -> Output:
        """Return the meta prediction corrected by the base learner's, at the image's size, and in training the losses.

        The class of ``Episode.own_class`` suppresses nothing.
        """
        final = self.ensemble(meta_b2hw, base_bnhw, scene_b, episode.own_class(self.training))
        size = episode.query.shape[-2:]
        final, meta, base = (resize(x.float(), size) for x in (final, meta_b2hw, base_bnhw))
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
