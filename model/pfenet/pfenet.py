"""PFENet: a query's features are enriched, scale by scale, by the supports' prototype and by a prior of the object.

Source: Tian et al., Prior Guided Feature Enrichment Network for Few-Shot Segmentation, TPAMI 2020 (arXiv 2008.01449).
The prior is the paper's "prior generation" (``prior``), the decoder its "feature enrichment module"
(``FeatureEnrichment``, with the names of its three parts), and the loss that of its section on the network. As in the
published code, and not in the paper, supports are masked before stage 4 of the encoder too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from typing_extensions import Self

from model.contract import Episode, Output, Shot, Task, WithEncoderSettings, register
from model.method import HIGH, MID, ONE_GRID, Maps, Method, Wants, mid_features
from model.parts.layers import WIDTH, FeatureEnrichment, default_scales, feature_projections
from model.parts.loss import mask_loss
from model.parts.prior import object_directions, prior
from model.pfenet.published import LAYOUT
from model.tensors.mask import Mask
from model.tensors.ops import logits_at, masked_mean, mean_over_shots


@dataclass
class PFENetSettings(WithEncoderSettings):
    """PFENet's own settings."""

    # Sides of the grids of the enrichment, the finest first; default ceil(h / 2^i) for i = 0..3, at 473 px the
    # published 60, 30, 15, 8
    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (1, 8)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})  # sigma, of the mean loss of the scales
    # true: in training the encoder's batch norms use each batch's statistics, and the checkpoint keeps their average,
    # as published; false: they use the statistics of the encoder's weights
    train_encoder_norms: bool = False


@dataclass
class PFENetShot(Shot):
    """The values of n supports that prior and enrichment read."""

    prototype: Tensor  # X_S, (n, 256)
    directions: Tensor  # of the high-level features on the object, (n, m, C)


@register("pfenet")
class PFENet(Method):
    """The published method. Prototypes and priors of the shots are averaged."""

    Settings = PFENetSettings
    title = "PFENet"
    protocol = "pfenet"
    published = LAYOUT
    wants = Wants(masked_after=MID, grids=ONE_GRID)  # f4_k = stage 4 of (f3_k m_k)
    shots_share_weights = True
    settings: PFENetSettings

    def __init__(self, settings: PFENetSettings, task: Task):
        super().__init__(settings, task)
        self.project_query, self.project_support = feature_projections(self.encoder)
        scales = settings.scales or default_scales(settings.encoder.grid(task.size))
        self.enrich = FeatureEnrichment(WIDTH, map_channels=1, scales=scales)

    @classmethod
    def encoder_changes(cls, settings: PFENetSettings) -> bool:
        """Return whether the meta stage changes the maps of an image."""
        return settings.train_encoder_norms or super().encoder_changes(settings)

    def train(self, mode: bool = True) -> Self:
        """Switch the mode of all parts; the encoder's is training where its batch norms are to follow the batches."""
        super().train(mode)
        if self.settings.train_encoder_norms:
            self.encoder.train(mode)
        return self

    def support(self, maps: Maps, mask: Mask) -> PFENetShot:
        """Return prototype and high-level features of n supports."""
        feature = self.project_support(mid_features(maps))
        small_mask = mask.on(feature.shape[-2:])
        return PFENetShot(
            prototype=masked_mean(feature, small_mask),
            directions=object_directions(maps[HIGH], mask),
        )

    def predict(self, maps: Maps, shots: Sequence[PFENetShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S), and in training the losses ``main`` and ``inner`` (of the scales)."""
        # The prior of the object, and the prototype.
        priors = [prior(maps[HIGH], shot.directions) for shot in shots]
        prior_mask = mean_over_shots(torch.stack(priors, dim=1)).unsqueeze(1)  # Y_Q, (B, 1, h, w)
        prototype = mean_over_shots(torch.stack([shot.prototype for shot in shots], dim=1))  # X_S, (B, 256)

        # Enrich the middle features, scale by scale.
        feature = self.project_query(mid_features(maps))  # X_Q, (B, 256, h, w)
        logits, auxiliary = self.enrich(feature, prototype, prior_mask)

        output = Output(logits_at(logits, episode.query.shape[-2:]), pictures={"prior": prior_mask[:, 0]})
        if self.training:
            inner = torch.stack([mask_loss(x, episode.query_label) for x in auxiliary]).mean()
            main = mask_loss(output.logits, episode.query_label)
            output.losses = {"main": main, "inner": self.settings.aux_weight * inner}
        return output
