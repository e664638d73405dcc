"""BAM: a base learner finds the classes of training, a meta learner the novel class, an ensemble corrects the second.

Read ``BAM.support`` and ``BAM.predict``. Base learner, shot weights and ensemble, which other methods have too, are in
``model/parts/base_learner.py``, ``model/parts/base_stage.py`` and ``model/kinds/with_base_learner.py``.
Source: Lang et al., Learning What Not to Segment: A New Perspective on Few-Shot Segmentation, CVPR 2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.bam.published import LAYOUT
from model.contract import Episode, Output, Shot, Task, register
from model.kinds.with_base_learner import WithBaseLearner
from model.method import HIGH, MID, ONE_GRID, Maps, Wants, low_features, mid_features
from model.parts.aspp import ASPPDecoder, Fusion
from model.parts.base_learner import Ensemble, cross_entropies, gram
from model.parts.base_stage import WithBaseSettings
from model.parts.layers import WIDTH
from model.parts.prior import object_directions, prior
from model.tensors.mask import Mask
from model.tensors.ops import masked_mean, mean_over_shots


@dataclass
class BAMShot(Shot):
    """The values of n supports that a prediction reads."""

    gram: Tensor  # G_k of the scene, (n, C, C)
    directions: Tensor  # of the high-level features on the object, (n, m, C)
    prototype: Tensor  # p_k, (n, 256)


@register("bam")
class BAM(WithBaseLearner):
    """The published method; every module below is one of its ideas."""

    Settings = WithBaseSettings  # the method has no settings of its own
    title = "BAM"
    protocol = "bam"
    published = LAYOUT
    wants = Wants(masked_after=MID, base_learner=True, grids=ONE_GRID)  # f4_k = stage 4 of (f3_k m_k)
    reads_base_labels = True

    def __init__(self, settings: WithBaseSettings, task: Task):
        super().__init__(settings, task)
        self.fuse = Fusion()
        self.decoder = ASPPDecoder(WIDTH)
        self.ensemble = Ensemble()

    def support(self, maps: Maps, mask: Mask) -> BAMShot:
        """Return what the weight, the prior and the prototype of n supports read."""
        feature = self.project_support(mid_features(maps))  # x_k, (n, 256, h, w)
        small_mask = mask.on(feature.shape[-2:])
        return BAMShot(
            gram=gram(low_features(maps)),
            directions=object_directions(maps[HIGH], mask),
            prototype=masked_mean(feature, small_mask),
        )

    def predict(self, maps: Maps, shots: Sequence[BAMShot], episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        # The base learner.
        base_logits = self.base_logits(maps.base)  # (B, N + 1, h, w)

        # The weight of each shot by the distance of its scene, and the prior and the prototype of all.
        scene, weight = self.shot_weights_by_scene(low_features(maps), shots)  # e, (B,), and w_k, (B, K)
        priors = torch.stack([prior(maps[HIGH], shot.directions) for shot in shots], dim=1)  # (B, K, h, w)
        prior_mask = mean_over_shots(priors, weight).unsqueeze(1)  # P, (B, 1, h, w)
        prototypes = torch.stack([shot.prototype for shot in shots], dim=1)  # p_k, (B, K, 256)
        prototype = mean_over_shots(prototypes, weight)  # p, (B, 256)

        # The meta learner, and its correction by the base learner.
        feature = self.project_query(mid_features(maps))  # X_q, (B, 256, h, w)
        meta = self.decoder(F.relu(self.fuse(feature, prototype, prior_mask)))
        output = self.ensemble_with_base(meta, base_logits, scene, episode)
        output.pictures["prior"] = prior_mask[:, 0].detach()
        if self.training:
            output.losses = cross_entropies(output, episode)
        return output
