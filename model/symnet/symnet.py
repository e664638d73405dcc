"""Sym-Net as published: segment a query image from K annotated supports of a class that training never showed.

Read ``SymNet.forward`` first; it follows the paper. ``hybrid_prototype.py`` has the self-activation prior, the
visual-text alignment and the triplet losses, ``correlation.py`` the hyper-correlation. The decoder is PFENet's
(``FeatureEnrichment``), shots' weights and ensemble are BAM's (``model/common/with_base_learner.py``). Steps beyond the
paper are in ``symnet_plus.py``.
Source: Li et al., Symmetrical Joint Learning Support-query Prototypes for Few-shot Segmentation (arXiv 2407.19306).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from model.common.fixed_shapes import Choice, Objects, objects_of_shots
from model.common.layers import WIDTH, FeatureEnrichment, default_scales
from model.common.loss import cross_entropy, mask_loss
from model.common.ops import by_shot, foreground_mask, joined, logits_at, masked_mean, mean_over_shots
from model.common.presence import presence_features, support_summary
from model.common.published import BASE_LEARNER, ENCODER, ENSEMBLE, PROJECTIONS, Layout
from model.common.with_base_learner import Ensemble, WithBaseLearner, WithBaseSettings, gram, gram_distance
from model.common.with_encoder import HIGH, LOW, mid_features
from model.contract import Episode, Output, Task, register
from model.encoders.features import Features
from model.symnet import hybrid_prototype as hybrid
from model.symnet.correlation import OUT_CHANNELS, CorrelationFusion, Correlations, PooledCorrelation, full_overlap

MAPS = OUT_CHANNELS + 1  # channels of the decoder's inputs besides feature and prototype: H and P
LAYOUT = Layout(
    "Sym-Net",
    ("down_supp.0.weight", "hyper_final.conv1.weight", "CrossAttention.weight"),
    (
        *(*ENCODER, *BASE_LEARNER, *PROJECTIONS, *ENSEMBLE),
        (r"CrossAttention\.weight", r"align.bilinear"),
        (r"CrossAttention\.w_q\.(.*)", r"align.query.\1"),
        (r"CrossAttention\.w_k\.(.*)", r"align.key.\1"),
        (r"CrossAttention\.proj\.(.*)", r"align.project.\1"),
        *((rf"hyper_final\.conv{i}\.(.*)", rf"fuse_correlation.enter.{5 - i}.\1") for i in (1, 2, 3)),
        (r"hyper_final\.merge1\.(.*)", r"fuse_correlation.top.\1"),
        (r"hyper_final\.merge2\.(.*)", r"fuse_correlation.bottom.\1"),
        (r"init_merge\.(\d)\.0\.(.*)", r"decoder.enter.\1.0.\2"),
        (r"alpha_conv\.(\d)\.0\.(.*)", r"decoder.descend.\1.0.\2"),
        (r"beta_conv\.(\d)\.(.*)", r"decoder.refine.\1.body.\2"),
        (r"inner_cls\.(\d)\.0\.(.*)", r"decoder.auxiliary.\1.conv.\2"),
        (r"inner_cls\.(\d)\.3\.(.*)", r"decoder.auxiliary.\1.classify.\2"),
        (r"res1\.0\.(.*)", r"decoder.merge.0.\1"),
        (r"res2\.(.*)", r"decoder.refine_merged.body.\1"),
        (r"cls\.0\.(.*)", r"decoder.head.conv.\1"),
        (r"cls\.3\.(.*)", r"decoder.head.classify.\1"),
    ),
)


@dataclass
class SymNetSettings(WithBaseSettings):
    """Sym-Net's own settings; ``config/model/symnet.yaml`` explains them."""

    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (4, 4)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if the decoder's scales do not fit the image side."""
        grid = self.encoder.grid(size)
        if self.scales is not None and self.scales[0] != grid:
            hint = f"null gives {default_scales(grid)}"
            return "scales", f"= {self.scales} must start at {grid}, the grid of data.size {size}; {hint}"
        return None


class Shots(NamedTuple):
    """The features, masks and priors of a group of n shots."""

    grams: Tensor  # G_k, (B, n, C_2, C_2)
    directions: Tensor  # of the object for the prior, (B, n, 3, C_4)
    aligned: Tensor  # r_k, (B, n, 256)
    support_summary: Tensor | None  # of the object for the presence score, (B, n, C_4 + 3); None in training
    features: Tensor | None  # in training X_k, (B, n, 256, h, w)
    more: Any  # what steps beyond the paper read


@register("symnet")
class SymNet(WithBaseLearner):
    """The published method; each attribute is one of its ideas, and a subclass may override each step."""

    Settings = SymNetSettings
    title = "Sym-Net"
    published = LAYOUT
    reads_text = reads_intermediate = True
    foreground_weight = 1.0  # of pixels in the losses of two-class logits
    settings: SymNetSettings

    def __init__(self, settings: SymNetSettings, task: Task):
        super().__init__(settings, task)
        self.align = hybrid.TextAlignment(WIDTH, task.text_width)
        self.correlation = self._build_correlation()
        self.fuse_correlation = CorrelationFusion(self.correlation.out_counts)
        self.decoder = self._build_decoder(settings.scales or default_scales(settings.encoder.grid(task.size)))
        self.ensemble = Ensemble()
        self.freeze()

    def _build_correlation(self) -> PooledCorrelation:
        return PooledCorrelation(self.encoder.intermediate_counts)

    def _build_decoder(self, scales: list[int]) -> FeatureEnrichment:
        return FeatureEnrichment(WIDTH, MAPS, scales)

    def forward(self, episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)
        objects = objects_of_shots(mask, inside=full_overlap, **self._choices(episode))
        text = cast(Tensor, episode.text)  # t, (B, T)

        # The frozen encoder and base learner. Every intermediate feature map becomes a correlation at once.
        query, correlation, shots = self._encoded(episode, objects, text)
        grams, directions, aligned, summaries, features, more = zip(*shots)
        with self.encoder_grad():
            base_logits = self.base_learner.logits(self.query_hidden(episode, query))  # (B, N + 1, h, w)

        # The weight of each shot, by the similarity of its scene.
        distance = gram_distance(gram(query.stage[LOW]), torch.cat(grams, dim=1))  # e_k, (B, K)
        weight = self.shot_weights(distance)  # w_k, (B, K)
        scene = mean_over_shots(distance, weight)  # e, (B,)

        # The self-activation prior: a pseudo mask of the query.
        priors = hybrid.self_activation_priors(query.stage[HIGH], torch.cat(directions, dim=1))  # (B, K, h, w)
        prior = mean_over_shots(priors, weight).unsqueeze(1)  # P, (B, 1, h, w)

        # The hybrid prototype: support and query, each aligned with the class name.
        query_feature = self.project_query(mid_features(query))  # X_q, (B, 256, h, w)
        support_vector = mean_over_shots(torch.cat(aligned, dim=1), weight)  # r_s, (B, 256)
        query_prototypes = hybrid.query_prototypes(query_feature, prior)  # (B, 256) each
        query_vector = self.align(query_feature * prior, text, query_prototypes.foreground)  # r_q, (B, 256)
        prototype = (support_vector + query_vector) / 2  # r

        # The hyper-correlation, the four-scale decoder, and the ensemble with the base learner.
        hyper = self.fuse_correlation(self.correlation.squeeze(correlation))  # H, (B, 48, h, w)
        predictions, auxiliary = self._decode(query, more, weight, query_feature, prototype, hyper, prior)
        own_class = episode.own_class(self.training)
        final = self._final(more, weight, predictions["meta"], base_logits, scene, own_class)  # (B, 2, h, w)

        size = episode.query.shape[-2:]
        extra = {name: logits_at(logits, size) for name, logits in predictions.items()}
        base_logits = logits_at(base_logits, size)
        output = Output(logits_at(final, size), base_logits, extra, {"prior": prior[:, 0].float()})
        if self.training:
            support_loss = hybrid.support_triplet(support_vector, joined(features, dim=1), mask)
            query_loss = hybrid.query_triplet(query_vector, query_prototypes.ambiguous, query_prototypes.background)
            output.losses = self._losses(output, auxiliary, support_loss + query_loss, episode)
        else:
            output.presence_features = presence_features(query.stage[HIGH], torch.cat(summaries, dim=1))
        return output

    def _encoded(
        self, episode: Episode, objects: Callable[[slice], Objects], text: Tensor
    ) -> tuple[Features, dict[int, list[Tensor]], list["Shots"]]:
        """Return the features of the queries, their correlation with the supports, and what is read of the shots."""
        correlations = Correlations(self.correlation)
        if self.takes_one_call(episode):
            group = slice(0, episode.support.shape[1])
            with self.encoder_grad():
                give = correlations.at_once(objects(group), len(episode.query))
                query, support = self.encode_in_one_call(episode, give)
            shots = [self._shots(episode, group, support, objects(group), text)]
        else:
            shots = []
            for group in self.shot_groups(episode):
                with self.encoder_grad():
                    support = self.encode_shots(episode, group, correlations.shot(objects(group)))
                shots.append(self._shots(episode, group, support, objects(group), text))
            with self.encoder_grad():
                query = self.encode_query(episode, correlations.query)
        return query, correlations.take(), shots

    def _shots(self, episode: Episode, group: slice, support: Features, objects: Objects, text: Tensor) -> "Shots":
        """Return what is read later of a group of shots, whose features would take the memory of K shots."""
        batch = len(text)
        count = group.stop - group.start
        more = self._read_more(episode, group, support, objects)
        f4 = support.stage.pop(HIGH)
        directions = hybrid.object_directions(f4, objects)
        summary = None if self.training else by_shot(support_summary(f4, objects.mask), batch)
        del f4
        feature = self.project_support(mid_features(support))  # X_k, (n B, 256, h, w)
        small_mask = objects.on(feature.shape[-2:]).mask  # m_k, (n B, 1, h, w)
        masked_feature = feature * small_mask
        prototype = masked_mean(feature, small_mask)
        aligned = self.align(masked_feature, text.repeat(count, 1), prototype)
        return Shots(
            grams=by_shot(gram(support.stage[LOW]), batch),
            directions=by_shot(directions, batch),
            aligned=by_shot(aligned, batch),
            support_summary=summary,
            features=by_shot(feature, batch) if self.training else None,
            more=more,
        )

    def _choices(self, episode: Episode) -> dict[str, Choice]:
        """Return further positions of the supports that a step beyond the paper reads."""
        return {}

    def _read_more(self, episode: Episode, group: slice, support: Features, objects: Objects) -> Any:
        """Return what a step beyond the paper reads of the features of a group of shots."""
        return None

    def _decode(
        self, query: Features, more: Sequence[Any], weight: Tensor, *inputs: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return two-class logits (B, 2, h, w) by name, ``meta`` last, and in training those of each scale."""
        meta, auxiliary = self.decoder(*inputs)
        return {"meta": meta}, auxiliary

    def _final(self, more: Sequence[Any], weight: Tensor, *inputs: Any) -> Tensor:
        """Return the final logits (B, 2, h, w); in training the episode's own base class suppresses nothing."""
        return self.ensemble(*inputs)

    def _losses(self, output: Output, auxiliary: list[Tensor], triplet: Tensor, episode: Episode) -> dict[str, Tensor]:
        """Return the weighted losses; ``meta`` is the sum over the logits in ``extra``."""
        rule = partial(cross_entropy, foreground_weight=self.foreground_weight)
        label = episode.query_label
        meta = [mask_loss(x, label, rule) for x in output.extra.values()]
        inner = [mask_loss(x, label, rule) for x in auxiliary]
        auxiliary_losses = {
            "meta": torch.stack(meta).sum(),
            "base": mask_loss(cast(Tensor, output.base_logits), cast(Tensor, episode.query_base_label)),
            "inner": torch.stack(inner).mean(),
            "triplet": triplet,
        }
        losses = {"main": mask_loss(output.logits, label, rule)}
        for name, loss in auxiliary_losses.items():
            losses[name] = self.settings.aux_weight * loss
        return losses
