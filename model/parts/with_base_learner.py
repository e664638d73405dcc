"""Models over a frozen encoder and base learner (BAM): the base stage, and distances of scenes.

The distances weigh the shots, and correct the meta prediction together with the base learner's.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.contract import Task, Trainable
from model.encoders.registry import ONE_GRID
from model.episode import Episode, Output
from model.parts.base_learner import BaseLearner, BaseStage
from model.parts.layers import HEAD_DROPOUT
from model.parts.loss import mask_loss
from model.parts.with_encoder import HIGH, WithEncoder, WithEncoderSettings
from model.tensors.ops import in_float32, logits_at


@torch.no_grad()
@in_float32
def gram(feature_bchw: Tensor) -> Tensor:
    """Return the cosine Gram matrix between channels over positions, (B, C, C)."""
    x_bcl = feature_bchw.flatten(2)
    norm_bc = x_bcl.norm(dim=2)
    return torch.bmm(x_bcl, x_bcl.transpose(1, 2)) / (norm_bc.unsqueeze(2) * norm_bc.unsqueeze(1) + 1e-7)


@torch.no_grad()
@in_float32
def gram_distance(query_gram_bcc: Tensor, support_gram_bkcc: Tensor) -> Tensor:
    """Return e_k = |G_q - G_k| / C of K shots, (B, K), the distance of low-level statistics."""
    difference = query_gram_bcc.unsqueeze(1) - support_gram_bkcc
    return difference.flatten(2).norm(dim=2) / query_gram_bcc.shape[1]


class ShotWeights(nn.Module):
    """Learned shot weights from the sorted scene distances; a single shot has weight 1 and needs no parameters.

    Each weight belongs to the shot of its distance; HDMNet's published checkpoints give that of rank r to position r.
    """

    def __init__(self, shots: int, in_shot_order: bool = True):
        super().__init__()
        self.shots, self.in_shot_order = shots, in_shot_order
        if shots > 1:
            self.mix = nn.Sequential(nn.Conv2d(shots, 2, 1), nn.ReLU(inplace=True), nn.Conv2d(2, shots, 1))

    @in_float32
    def forward(self, distance_bk: Tensor) -> Tensor:
        """Return the weights w_k, (B, K) with sum 1, from the distances e_k."""
        if self.shots == 1:
            return torch.ones_like(distance_bk)
        ascending, order = distance_bk.sort(dim=1)
        score = self.mix(ascending[:, :, None, None])[:, :, 0, 0]
        if self.in_shot_order:
            score = torch.zeros_like(score).scatter(1, order, score)
        return score.softmax(dim=1)


class Ensemble(nn.Module):
    """Correct the meta prediction by the scene difference (g) and the probability of base classes."""

    def __init__(self) -> None:
        super().__init__()
        self.scene, self.background = (nn.Conv2d(2, 1, 1, bias=False) for _ in range(2))  # g serves both classes
        for merge in (self.scene, self.background):
            nn.init.dirac_(merge.weight)  # its output is the first map at first

    @in_float32
    def forward(self, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor, own_class_b: Tensor | None) -> Tensor:
        """Return final logits (B, 2, h, w) from meta and base logits and scenes; the own class suppresses nothing."""
        probability = base_bnhw.softmax(dim=1)
        base = probability[:, 1:].sum(1, keepdim=True)  # of any base class, (B, 1, h, w)
        if own_class_b is not None:
            index = own_class_b.view(-1, 1, 1, 1).expand(-1, 1, *probability.shape[2:])
            own_class = probability.gather(1, index)
            base = base - own_class * (own_class_b > 0).view(-1, 1, 1, 1)
        difference = scene_b.view(-1, 1, 1, 1).expand_as(base)
        meta = meta_b2hw.softmax(dim=1).split(1, dim=1)
        background, foreground = (self.scene(torch.cat([x, difference], dim=1)) for x in meta)
        return torch.cat([self.background(torch.cat([background, base], dim=1)), foreground], dim=1)


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


class OverBaseStage(WithEncoder):
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
        final = self.ensemble(meta_b2hw, base_bnhw, scene_b, episode.own_class(self.training))
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
