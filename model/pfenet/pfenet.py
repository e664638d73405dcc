"""PFENet: a query's features are enriched, scale by scale, by the supports' prototype and by a prior of the object.

Source: Tian et al., Prior Guided Feature Enrichment Network for Few-Shot Segmentation, TPAMI 2020 (arXiv 2008.01449).
This is written from the paper. The prior is its "prior generation" (``shot_priors``), the decoder its "feature
enrichment module" (``FeatureEnrichment``, with the names of its three parts), and the loss that of its section on the
network. No published weights were compared.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.common.fixed_shapes import Objects, objects_of_shots
from model.common.layers import WIDTH, FeatureEnrichment, default_scales
from model.common.loss import mask_loss
from model.common.ops import by_shot, foreground_mask, logits_at, masked_mean, mean_over_shots
from model.common.presence import presence_features, support_summary
from model.common.prototype import any_overlap, shot_priors
from model.common.with_encoder import HIGH, WithEncoder, WithEncoderSettings, mid_features
from model.contract import Episode, Output, Task, register
from model.encoders.features import Features


@dataclass
class PFENetSettings(WithEncoderSettings):
    """PFENet's own settings; ``config/model/pfenet.yaml`` explains them."""

    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (1, 8)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})


@register("pfenet")
class PFENet(WithEncoder):
    """The published method. Prototypes and priors of the shots are averaged."""

    Settings = PFENetSettings
    title = "PFENet"
    shots_share_weights = True
    settings: PFENetSettings

    def __init__(self, settings: PFENetSettings, task: Task):
        super().__init__(settings, task)
        self.project_query, self.project_support = self.projections()
        scales = settings.scales or default_scales(settings.encoder.grid(task.size))
        self.enrich = FeatureEnrichment(WIDTH, map_channels=1, scales=scales)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S), and in training the losses ``main`` and ``inner`` (of the scales)."""
        # The encoder, frozen unless a part of it learns, and what is read of each shot.
        query, groups = self.encode_in_groups(episode)
        objects = objects_of_shots(foreground_mask(episode.support_label), inside=any_overlap)
        shots = [self._shots(support, objects(group), query.stage[HIGH]) for group, support in groups]
        prototypes, priors, summaries = (torch.cat(parts, dim=1) for parts in zip(*shots))
        prior = mean_over_shots(priors).unsqueeze(1)  # Y_Q, (B, 1, h, w)

        # Enrich the middle features, X_Q (B, 256, h, w), by the mean prototype X_S (B, 256) and the prior.
        logits, auxiliary = self.enrich(self.project_query(mid_features(query)), mean_over_shots(prototypes), prior)

        output = Output(logits_at(logits, episode.query.shape[-2:]), maps={"prior": prior[:, 0]})
        if self.training:
            inner = torch.stack([mask_loss(x, episode.query_label) for x in auxiliary]).mean()
            main = mask_loss(output.logits, episode.query_label)
            output.losses = {"main": main, "inner": self.settings.aux_weight * inner}
        else:
            output.presence_features = presence_features(query.stage[HIGH], summaries)
        return output

    def _shots(self, support: Features, objects: Objects, query_f4: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return prototypes (B, n, 256), priors (B, n, h, w) and summaries (B, n, C + 3) of a group of n shots."""
        batch = len(query_f4)
        support_f4 = support.stage[HIGH]
        feature = self.project_support(mid_features(support))
        prototypes = masked_mean(feature, objects.on(feature.shape[-2:]).mask)
        summaries = support_summary(support_f4, objects.mask)
        priors = shot_priors(query_f4, support_f4, objects)
        return by_shot(prototypes, batch), priors, by_shot(summaries, batch)
