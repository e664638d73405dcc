"""Sym-Net as published: segment a query image from K annotated supports of a class that training never showed.

Read ``SymNet.support`` and ``SymNet.predict``; they follow the paper. ``correlation.py`` has its hyper-correlation,
``steps.py`` its prior, query prototypes and alignment A with text. The decoder is PFENet's (``FeatureEnrichment``);
projections, shots' weights, base learner and ensemble are BAM's (``model/kinds/with_base_learner.py``,
``model/parts/base_learner.py``).

The authors' code reduces the 4D hyper-correlation to its mean over the support's object: one map of each feature map,
without parameters (``correlation: pooled``). ``correlation: conv4d`` is the one setting for a head that keeps the
support's positions and squeezes them by learned 4D convolutions (``correlation4d.py``).

Shape letters: B queries, K shots, n supports (the B of one shot), m positions inside an object, C_i channels of stage
i, M feature maps of a stage, h w the grid of f3, S image side, N base classes, T numbers of a word vector.
Source: Li et al., Symmetrical Joint Learning Support-query Prototypes for Few-shot Segmentation (arXiv 2407.19306).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor

from model.contract import Episode, Output, Shot, Task, register
from model.kinds.with_base_learner import WithBaseLearner
from model.method import HIGH, LOW, ONE_GRID, Maps, Wants, mid_features
from model.parts.base_learner import Ensemble, gram
from model.parts.base_stage import WithBaseSettings
from model.parts.layers import WIDTH, FeatureEnrichment, default_scales
from model.symnet import steps
from model.symnet.correlation import OUT_CHANNELS, CorrelationFusion, ObjectMaps, PooledCorrelation
from model.symnet.correlation4d import Conv4dCorrelation
from model.symnet.losses import losses, query_triplet, support_triplet
from model.symnet.published import LAYOUT
from model.tensors.mask import Mask
from model.tensors.ops import foreground_mask, masked_mean, mean_over_shots

MAP_CHANNELS = OUT_CHANNELS + 1  # of the decoder's inputs besides feature and prototype: H and P
HEADS = {"pooled": PooledCorrelation, "conv4d": Conv4dCorrelation}  # of the hyper-correlation


@dataclass
class SymNetSettings(WithBaseSettings):
    """Sym-Net's own settings."""

    # The head of the hyper-correlation. pooled: the published one, a mean over the support's object; conv4d: 4D
    # convolutions that keep the support's positions, trained in the meta stage (correlation4d.py)
    correlation: Literal["pooled", "conv4d"] = "pooled"
    # Grid sizes of the decoder; default ceil(h / 2^i) for i = 0..3
    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (4, 4)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})  # of every loss but the main one

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if the decoder's scales do not fit the image side."""
        grid = self.encoder.grid(size)
        if self.scales is not None and self.scales[0] != grid:
            problem = f"= {self.scales} must start at {grid}, the grid of data.size {size}"
            return "scales", f"{problem}; null gives {default_scales(grid)}"
        return None


@dataclass
class SymNetShot(Shot):
    """The values of n supports that a prediction reads."""

    gram: Tensor  # G_k of f2, which stands for the scene, (n, C_2, C_2)
    objects: ObjectMaps  # the object's unit features at every block, for the correlation
    pooled_directions: Tensor  # sum_j s_j / |s_j| of the object's f4 under three poolings, for the prior, (n, 3, C_4)
    prototype: Tensor  # p_k, (n, 256)
    on_object: Tensor  # X_k m_k, (n, 256, h, w)
    feature: Tensor | None  # X_k, (n, 256, h, w), in training


@register("symnet")
class SymNet(WithBaseLearner):
    """The published method: ``support`` reads the annotated images, ``predict`` segments the query."""

    Settings = SymNetSettings
    title = "Sym-Net"
    published = LAYOUT
    reads_text = True
    wants = Wants(blocks=True, base_learner=True, grids=ONE_GRID)
    reads_base_labels = True
    settings: SymNetSettings

    def __init__(self, settings: SymNetSettings, task: Task):
        super().__init__(settings, task)
        self.align = steps.TextAlignment(WIDTH, task.text_width)
        self.correlation = HEADS[settings.correlation](self.encoder.intermediate_counts)
        self.fuse_correlation = CorrelationFusion(self.correlation.out_counts)
        scales = settings.scales or default_scales(settings.encoder.grid(task.size))
        self.decoder = FeatureEnrichment(WIDTH, MAP_CHANNELS, scales)
        self.ensemble = Ensemble()

    def support(self, maps: Maps, mask: Mask) -> SymNetShot:
        """Return what the paper's steps read of n supports."""
        objects = self.correlation.object_maps(maps.blocks(), mask)
        feature = self.project_support(mid_features(maps))  # X_k = relu(W_s [f3; f2]), (n, 256, h, w)
        small_mask = mask.on(feature.shape[-2:])  # m_k in 0..1, (n, 1, h, w)
        return SymNetShot(
            gram=gram(maps[LOW]),
            objects=objects,
            pooled_directions=steps.pooled_directions(maps[HIGH], mask),
            prototype=masked_mean(feature, small_mask),
            on_object=feature * small_mask,
            feature=feature if self.training else None,
        )

    def predict(self, maps: Maps, shots: Sequence[SymNetShot], episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        text = cast(Tensor, episode.text)  # t, (B, T)

        # The hyper-correlation: every block of the query with the supports' objects, a plain mean over shots.
        objects = [shot.objects for shot in shots]
        stage_maps = self.correlation.of_query(maps.blocks(), objects)  # stage -> (B, M, h, w)
        hyper = self.fuse_correlation(stage_maps)  # H, (B, 48, h, w)

        # The weight of each shot, by the distance of its scene from the query's.
        scene_distance, weight = self.shot_weights_by_scene(maps[LOW], shots)  # e, (B,), and w_k, (B, K)

        # The self-activation prior: a pseudo mask of the query.
        directions = torch.stack([shot.pooled_directions for shot in shots], dim=1)  # (B, K, 3, C_4)
        priors = steps.self_activation_priors(maps[HIGH], directions)  # (B, K, h, w)
        prior = mean_over_shots(priors, weight).unsqueeze(1)  # P, (B, 1, h, w)

        # The hybrid prototype: support and query, each aligned with the class name.
        query_feature = self.project_query(mid_features(maps))  # X_q = relu(W_q [f3; f2]), (B, 256, h, w)
        aligned = [self.align(shot.on_object, text, shot.prototype) for shot in shots]  # r_k = A(X_k m_k, t, p_k)
        support_vector = mean_over_shots(torch.stack(aligned, dim=1), weight)  # r_s, (B, 256)
        query_prototypes = steps.query_prototypes(query_feature, prior)  # at high, middling, low P, (B, 256) each
        query_vector = self.align(query_feature * prior, text, query_prototypes.foreground)  # r_q, (B, 256)
        prototype = (support_vector + query_vector) / 2  # r, (B, 256)

        # The four-scale decoder, and the ensemble with the base learner.
        meta, auxiliary = self.decoder(query_feature, prototype, hyper, prior)  # (B, 2, h, w), and those of every scale
        base_logits = self.base_logits(maps.base)  # (B, N + 1, h, w)
        output = self.ensemble_with_base(meta, base_logits, scene_distance, episode)
        output.pictures["prior"] = prior[:, 0].float()
        if self.training:  # cross-entropies of final, meta, base and every scale's logits; triplets of r_s and of r_q
            support_features = torch.stack([cast(Tensor, shot.feature) for shot in shots], dim=1)  # (B, K, 256, h, w)
            support_loss = support_triplet(support_vector, support_features, foreground_mask(episode.support_label))
            query_loss = query_triplet(query_vector, query_prototypes.ambiguous, query_prototypes.background)
            triplet = support_loss + query_loss
            output.losses = losses(output, auxiliary, triplet, episode, aux_weight=self.settings.aux_weight)
            output.image_losses = ("triplet",)
        return output
