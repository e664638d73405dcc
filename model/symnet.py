"""Sym-Net: segment a query from K annotated supports of a class never trained on. Read ``SymNet.forward`` first.

A frozen encoder and base learner, a self-activation prior over the query, a hybrid prototype (support and query,
aligned with the class name), a pooled hyper-correlation, a four-scale decoder, and an ensemble with the base learner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from model import published
from model.base_learner import BaseLearner, BaseStage
from model.contract import Episode, ModelSettings, Output, ParamGroup, Task, Trainable
from model.decoder import Decoder, default_scales
from model.encoder import ENCODER_STRIDE, EncoderSettings, Features, build_encoder, encode_together
from model.encoder_layouts import describe
from model.encoder_weights import WithEncoder
from model.ensemble import Ensemble
from model.hyper_correlation import KINDS, OUT_CHANNELS, CorrelationFusion
from model.loss import cross_entropy
from model.ops import foreground, normalise, resize
from model.prior import SelfActivationPrior
from model.prototype import query_prototypes, support_prototype
from model.registry import register
from model.shot_weights import ShotWeights, scene_distance
from model.text_alignment import TextAlignment
from model.triplet import query_triplet, support_triplet

LOW, MID, HIGH = 2, 3, 4  # encoder stages
WIDTH = 256  # channels of projected features and prototypes
PROJECTION_DROPOUT = 0.5
SHOT_MIX = "shot_weights.mix.0.weight"
BASE_CLASSIFIER = "base_learner.classify.4.weight"


@dataclass
class BaseSettings:
    """How the base-learner stage treats encoder and head."""

    frozen_stages: int = field(default=0, metadata={"low": 0, "high": 5})
    head_lr_factor: float = field(default=10.0, metadata={"low": 0})


@dataclass
class CorrelationSettings:
    """Which hyper-correlation head."""

    kind: Literal["pooled"] = "pooled"


@dataclass
class Settings(ModelSettings):
    """Sym-Net's own settings; ``config/model/symnet.yaml`` explains them."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    base: BaseSettings = field(default_factory=BaseSettings)
    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (4, 4)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})

    def grid(self, size: int) -> int:
        """Return h, the side of the feature grid of an S x S image."""
        return -(-size // 16) if self.encoder.backbone == "vgg16" else (size - 1) // ENCODER_STRIDE + 1

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to mend it) if a setting does not go with the image side."""
        grid = self.grid(size)
        if self.scales is not None and self.scales[0] != grid:
            hint = f"null gives {default_scales(grid)}"
            return "scales", f"= {self.scales} must start at {grid}, the grid of data.size {size}; {hint}"
        return None


@register("symnet")
class SymNet(WithEncoder):
    """The published method; every attribute below is one of its ideas."""

    Settings = Settings
    title = "Sym-Net"
    has_base_stage = True
    reads_base_labels = True
    reads_text = True
    reads_taps = True
    size_rule = (ENCODER_STRIDE, 1)

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder)
        channels = self.encoder.channels
        self.base_learner = BaseLearner(channels[HIGH], task.base_classes)
        self.project_query = self._projection(channels[MID] + channels[LOW])
        self.project_support = self._projection(channels[MID] + channels[LOW])
        self.shot_weights = ShotWeights(task.shots)
        self.prior = SelfActivationPrior()
        self.align = TextAlignment(WIDTH, task.text_width)
        self.correlation = KINDS[settings.correlation.kind](self.encoder.tap_counts)
        self.fuse_correlation = CorrelationFusion(self.correlation.out_counts)
        scales = settings.scales or default_scales(settings.grid(task.size))
        self.decoder = Decoder(WIDTH, OUT_CHANNELS + 1, scales)
        self.ensemble = Ensemble()
        self.freeze()

    @staticmethod
    def _projection(channels: int) -> nn.Sequential:
        conv = nn.Conv2d(channels, WIDTH, 1, bias=False)
        return nn.Sequential(conv, nn.ReLU(inplace=True), nn.Dropout2d(PROJECTION_DROPOUT))

    def forward(self, episode: Episode) -> Output:
        """Return final logits (B, 2, S, S), ``extra`` with ``meta`` and ``base``, and in training the losses."""
        batch, shots = episode.support.shape[:2]
        mask = foreground(episode.support_label)  # M_k, (B, K, 1, S, S)

        # Frozen: encoder, base learner, and what is computed from them alone.
        with torch.no_grad():
            images = normalise(episode.query), normalise(episode.support)
            query, support = encode_together(self.encoder, *images, self.reads_taps, episode.memory)
            base_logits = self.base_learner(query.stage[HIGH])
        correlation = self.correlation(query.taps, support.taps, mask)

        # How much each shot counts, by the likeness of its scene.
        distance = scene_distance(query.stage[LOW], support.stage[LOW].unflatten(0, (batch, shots)))  # e_k, (B, K)
        weight = self.shot_weights(distance)  # w_k, (B, K)
        scene = (weight * distance).sum(1)  # e, (B,)

        # Pseudo mask of the query.
        prior_per_shot = self.prior(query.stage[HIGH], support.stage[HIGH].unflatten(0, (batch, shots)), mask)
        prior = (prior_per_shot * weight[:, :, None, None]).sum(1, keepdim=True)  # P, (B, 1, h, w)

        # Hybrid prototype: support and query, each aligned with the class name.
        query_feature = self.project_query(_mid_features(query))  # X_q, (B, 256, h, w)
        support_feature = self.project_support(_mid_features(support))  # X_k, (B * K, 256, h, w)
        support_text = self._align_support(support_feature, mask, episode.text)  # r_k, (B, K, 256)
        support_prototype_bc = (support_text * weight.unsqueeze(2)).sum(1)  # r_s
        own = query_prototypes(query_feature, prior)
        query_prototype_bc = self.align(query_feature * prior, episode.text, own.foreground)  # r_q
        prototype = (support_prototype_bc + query_prototype_bc) / 2  # r

        # Decode, then correct by what the base learner claims.
        hyper = self.fuse_correlation(correlation)  # H, (B, 48, h, w)
        meta, auxiliary = self.decoder(query_feature, prototype, hyper, prior)
        own_class = episode.base_id if self.training else None
        final = self.ensemble(meta, base_logits, scene, own_class)

        size = episode.query.shape[-2:]
        final, meta, base = (resize(x.float(), size) for x in (final, meta, base_logits))
        output = Output(final, extra={"meta": meta, "base": base}, maps={"prior": prior[:, 0].float()})
        if self.training:
            output.losses = {
                "main": cross_entropy(final, episode.query_label),
                **self._auxiliary_losses(meta, base, auxiliary, episode),
                "triplet": self.settings.aux_weight
                * (
                    support_triplet(support_prototype_bc, support_feature.unflatten(0, (batch, shots)), mask)
                    + query_triplet(query_prototype_bc, own)
                ),
            }
        return output

    def _align_support(self, feature: Tensor, mask: Tensor, text: Tensor) -> Tensor:
        """Return the aligned prototype of every shot, r_k, (B, K, C)."""
        batch, shots = mask.shape[:2]
        small_mask = resize(mask.flatten(0, 1), feature.shape[-2:])  # m_k
        prototype = support_prototype(feature, small_mask)  # p_k
        text = text.repeat_interleave(shots, dim=0)
        return self.align(feature * small_mask, text, prototype).unflatten(0, (batch, shots))

    def _auxiliary_losses(self, meta: Tensor, base: Tensor, auxiliary: list[Tensor], episode: Episode) -> dict:
        size, weight = meta.shape[-2:], self.settings.aux_weight
        inner = [cross_entropy(resize(x.float(), size), episode.query_label) for x in auxiliary]
        return {
            "meta": weight * cross_entropy(meta, episode.query_label),
            "base": weight * cross_entropy(base, episode.query_base_label),
            "inner": weight * torch.stack(inner).mean(),
        }

    # --- what the engine asks ----------------------------------------------------------------------------------------

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner: both come from the base stage."""
        yield self.encoder
        yield self.base_learner

    def param_groups(self) -> list[ParamGroup]:
        """Return everything but encoder and base learner, with one learning rate."""
        return [ParamGroup("meta", [p for p in self.parameters() if p.requires_grad])]

    def base_stage(self) -> Trainable:
        """Return the first stage: encoder and base learner as an ordinary segmentation network."""
        base = self.settings.base
        return BaseStage(self.encoder, self.base_learner, base.frozen_stages, base.head_lr_factor)

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return encoder and number of base classes in words."""
        classifier = state.get(BASE_CLASSIFIER)
        classes = "no base learner" if classifier is None else f"a base learner of {len(classifier) - 1} classes"
        return f"{describe(state)} and {classes}"

    def shots_of(self, state: dict[str, Tensor]) -> int | None:
        """Return the inputs of the convolutions over shots; one shot has none."""
        mix = state.get(SHOT_MIX)
        return 1 if mix is None else mix.shape[1]

    def load_published(self, state: dict[str, Tensor]) -> dict[str, Tensor] | None:
        """Translate an authors' checkpoint; see ``model/published.py``."""
        return published.from_symnet(state)


def _mid_features(features: Features) -> Tensor:
    """Return [f3; f2] on f3's grid."""
    f3 = features.stage[MID]
    return torch.cat([f3, resize(features.stage[LOW], f3.shape[-2:])], dim=1)
