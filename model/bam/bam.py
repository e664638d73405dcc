"""BAM: a base learner finds the classes of training, a meta learner the novel class, an ensemble corrects the second.

Read ``BAM.forward`` first. Base learner, shots' weights and ensemble are in ``model/common/`` (``base_learner.py``,
``with_base_learner.py``), because other methods have them too.
Source: Lang et al., Learning What Not to Segment: A New Perspective on Few-Shot Segmentation, CVPR 2022.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import Objects, objects_of_shots
from model.common.layers import WIDTH, ASPPDecoder, Fusion
from model.common.ops import by_shot, foreground_mask, masked_mean, mean_over_shots
from model.common.presence import presence_features, support_summary
from model.common.prototype import any_overlap, shot_priors
from model.common.published import ASPP_DECODER, BASE_LEARNER, ENCODER, ENSEMBLE, PROJECTIONS, Layout
from model.common.with_base_learner import Ensemble, WithBaseLearner, WithBaseSettings, gram, gram_distance
from model.common.with_encoder import HIGH, LOW, MID, GiveOf, mid_features, on_one_grid
from model.contract import Episode, Output, Task, register
from model.encoders.features import Features


class BAMSettings(WithBaseSettings):
    """BAM's own settings; ``config/model/bam.yaml`` explains them."""


@register("bam")
class BAM(WithBaseLearner):
    """The published method; every module below is one of its ideas."""

    Settings = BAMSettings
    title = "BAM"
    published = Layout(
        "BAM",
        ("learner_base.1.0.weight", "init_merge.0.weight", "ASPP_meta.layer6_0.0.weight"),
        (
            *(*ENCODER, *BASE_LEARNER, *PROJECTIONS, *ENSEMBLE, *ASPP_DECODER),
            (r"init_merge\.0\.(.*)", r"fuse.conv.\1"),
        ),
    )
    masks_supports = True  # the last stage of the encoder sees a support's object alone

    def __init__(self, settings: BAMSettings, task: Task):
        super().__init__(settings, task)
        self.fuse = Fusion()
        self.decoder = ASPPDecoder(WIDTH)
        self.ensemble = Ensemble()
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        objects = objects_of_shots(foreground_mask(episode.support_label), inside=any_overlap)  # of M_k

        # The base learner, on the query.
        with self.encoder_grad():
            query = on_one_grid(self.encode_query(episode))
            hidden = self.query_hidden(episode, query)
            base_logits = self.base_learner.logits(self.base_dropout(hidden))  # (B, N + 1, h, w)
            query_gram = gram(query.stage[LOW])

        # Every shot: its scene's distance to the query's, its prior, its prototype; and its weight by the distance.
        groups = self.shot_groups(episode)
        shots = [self._shots(episode, group, objects(group), query, query_gram) for group in groups]
        distance, priors, prototypes, summaries = (torch.cat(parts, dim=1) for parts in zip(*shots))
        weight = self.shot_weights(distance)  # w_k, (B, K)
        scene = mean_over_shots(distance, weight)  # e, (B,)
        prior = mean_over_shots(priors, weight).unsqueeze(1)  # P, (B, 1, h, w)
        prototype = mean_over_shots(prototypes, weight)  # p, (B, 256)

        # The meta learner, and its correction by the base learner.
        query_feature = self.project_query(mid_features(query))  # X_q, (B, 256, h, w)
        meta = self.decoder(F.relu(self.fuse(query_feature, prototype, prior)))
        output = self.corrected(episode, meta, base_logits, scene)
        output.maps["prior"] = prior[:, 0].detach()
        if not self.training:
            output.presence_features = presence_features(query.stage[HIGH], summaries)
        return output

    def _shots(
        self, episode: Episode, group: slice, objects: Objects, query: Features, query_gram: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what is read of a group of n shots, encoded together.

        That is e_k (B, n), the priors P_k (B, n, h, w), the prototypes p_k (B, n, 256) and the summaries for the
        presence (B, n, C + 3).
        """
        batch = len(episode.query)
        support = on_one_grid(self.encode_shots(episode, group, objects=objects))
        distance = gram_distance(query_gram, by_shot(gram(support.stage[LOW]), batch))
        high = support.stage.pop(HIGH)
        high = high * (objects.on(high.shape[-2:]).mask > 0)  # beside the object, values depend on the other supports
        priors = shot_priors(query.stage[HIGH], high, objects)
        summaries = support_summary(high, objects.mask)
        del high
        feature = self.project_support(mid_features(support))  # x_k, (n B, 256, h, w)
        prototypes = masked_mean(feature, objects.on(feature.shape[-2:]).mask)
        return distance, priors, by_shot(prototypes, batch), by_shot(summaries, batch)

    def encode_supports(
        self, support_b3hw: Tensor, label_bhw: Tensor, give: GiveOf | None = None, objects: Objects | None = None
    ) -> Features:
        """Return the features of B supports; the last stage sees the object alone: f4_k = stage 4 of (f3_k m_k)."""
        with self.encoder_grad():
            image = self.encoder.normalise(support_b3hw)
            return self.encoder.forward_masked(image, objects or Objects(foreground_mask(label_bhw)), MID)
