"""Sym-Net: segment a query from K annotated supports of a class never trained on. Read ``SymNet.forward`` first.

A frozen encoder and base learner, a self-activation prior over the query, a hybrid prototype (support and query,
aligned with the class name), a hyper-correlation, a four-scale decoder, and an ensemble with the base learner.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from model.bam.ensemble import Ensemble
from model.bam.shot_weights import scene_distance
from model.bam.with_base_learner import HIGH, LOW, MID, WithBaseLearner, WithBaseSettings, mid_features
from model.common.loss import cross_entropy
from model.common.ops import background_mask, foreground_mask, resize
from model.common.projection import WIDTH
from model.common.prototype import QueryPrototypes, query_prototypes, support_prototype
from model.contract import Episode, Output, ParamGroup, Task
from model.registry import register
from model.symnet.decoder import Decoder, default_scales
from model.symnet.extensions.calibration import claimed_shares, trust, with_likelihood
from model.symnet.extensions.match import MAPS, Match
from model.symnet.extensions.refinement import Refinement
from model.symnet.hyper_correlation import KINDS, OUT_CHANNELS, CorrelationFusion
from model.symnet.prior import SelfActivationPrior
from model.symnet.published import LAYOUT
from model.symnet.text_alignment import TextAlignment
from model.symnet.triplet import query_triplet, support_triplet


@dataclass
class CorrelationSettings:
    """Which hyper-correlation head, and for ``conv4d`` the side of its support grid; None for the head's own."""

    kind: Literal["pooled", "conv4d"] = "pooled"
    support_grid: int | None = field(default=None, metadata={"low": 4, "high": 32})

    def build(self, intermediate_counts: dict[int, int]) -> nn.Module:
        """Return the head for an encoder with that many taps per stage."""
        given = {} if self.support_grid is None else {"support_grid": self.support_grid}
        return KINDS[self.kind](intermediate_counts, **given)


@dataclass
class Settings(WithBaseSettings):
    """Sym-Net's own settings; ``config/model/symnet.yaml`` explains them."""

    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    calibration: Literal["none", "discount", "likelihood"] = "none"
    self_support: Literal["none", "second_look", "match"] = "none"
    foreground_weight: float = field(default=1.0, metadata={"low": 0})
    scales: list[int] | None = field(default=None, metadata={"low": 1, "length": (4, 4)})
    aux_weight: float = field(default=1.0, metadata={"low": 0})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to mend it) if a setting does not go with another or the image side."""
        support_grid = self.correlation.support_grid
        if support_grid is not None and self.correlation.kind == "pooled":
            hint = "leave it null, or set the kind to conv4d"
            return "correlation.support_grid", f"= {support_grid} means nothing with correlation.kind: pooled; {hint}"
        grid = self.grid(size)
        if self.scales is not None and self.scales[0] != grid:
            hint = f"null gives {default_scales(grid)}"
            return "scales", f"= {self.scales} must start at {grid}, the grid of data.size {size}; {hint}"
        return None


@register("symnet")
class SymNet(WithBaseLearner):
    """The published method; every attribute below is one of its ideas."""

    Settings = Settings
    title = "Sym-Net"
    published = LAYOUT
    reads_text = True
    reads_intermediate = True

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.prior = SelfActivationPrior()
        self.align = TextAlignment(WIDTH, task.text_width)
        self.correlation = settings.correlation.build(self.encoder.intermediate_counts)
        self.fuse_correlation = CorrelationFusion(self.correlation.out_counts)
        scales = settings.scales or default_scales(settings.grid(task.size))
        self.match = Match(self.project_query[0].in_channels) if settings.self_support == "match" else None
        self.refine = Refinement() if settings.self_support == "second_look" else None
        self.decoder = Decoder(WIDTH, OUT_CHANNELS + 1 + (MAPS if self.match else 0), scales)
        self.ensemble = Ensemble()
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, which come from the base stage, and what a calibration leaves unused."""
        yield from super().frozen()
        if self.settings.calibration == "likelihood":
            yield self.ensemble

    def forward(self, episode: Episode) -> Output:
        """Return final, base and (in ``extra``) ``meta`` logits (B, 2 or N + 1, S, S), and in training the losses."""
        batch, shots = episode.support.shape[:2]
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)

        # Frozen: encoder, base learner, and what is computed from them alone.
        correlation: dict[int, list[Tensor]] = {stage: [] for stage in self.encoder.intermediate_counts}

        def correlate(stage: int, query_map: Tensor, support_map: Tensor) -> None:
            correlation[stage].append(self.correlation(query_map, support_map, mask))

        with torch.no_grad():
            query, support = self.encode(episode, correlate)
            base_logits = self.base_learner(query.stage[HIGH])

        # How much each shot counts, by the likeness of its scene.
        distance = scene_distance(query.stage[LOW], support.stage[LOW].unflatten(0, (batch, shots)))  # e_k, (B, K)
        weight = self.shot_weights(distance)  # w_k, (B, K)
        scene = (weight * distance).sum(1)  # e, (B,)

        # Pseudo mask of the query.
        prior_per_shot = self.prior(query.stage[HIGH], support.stage[HIGH].unflatten(0, (batch, shots)), mask)
        prior = (prior_per_shot * weight[:, :, None, None]).sum(1, keepdim=True)  # P, (B, 1, h, w)

        # Hybrid prototype: support and query, each aligned with the class name.
        mid = mid_features(query), mid_features(support)  # [f3; f2]
        query_feature = self.project_query(mid[0])  # X_q, (B, 256, h, w)
        support_feature = self.project_support(mid[1])  # X_k, (B * K, 256, h, w)
        small_mask = resize(mask.flatten(0, 1), support_feature.shape[-2:])  # m_k, (B * K, 1, h, w)
        looks = {}
        if self.match is not None:  # beyond the paper: a learned match, which the decoder sees and adds to
            around = resize(background_mask(episode.support_label).flatten(0, 1), small_mask.shape[-2:])
            looks = self.match(*mid, small_mask, around, weight)
        del mid  # large, and not needed any more
        support_text = self._align_support(support_feature, small_mask, episode.text, shots)  # r_k, (B, K, 256)
        support_prototype_bc = (support_text * weight.unsqueeze(2)).sum(1)  # r_s
        own, query_prototype_bc = self._align_query(query_feature, prior, episode.text)  # r_q
        prototype = (support_prototype_bc + query_prototype_bc) / 2  # r

        # Decode.
        hyper = self.fuse_correlation(self.correlation.squeeze(correlation))  # H, (B, 48, h, w)
        priors = {"prior": prior}
        if self.match is None:
            meta, auxiliary = self.decoder(query_feature, prototype, hyper, prior)
        else:
            meta, auxiliary = self.decoder(query_feature, prototype, hyper, prior, Match.seen(looks["match"]))
            meta = self.match.add(meta, looks["match"])

        # Beyond the paper: a second look, by what the first is sure of.
        if self.refine is not None:
            looks["first"] = meta
            prior = self.refine(meta, query.stage[MID], support.stage[MID], small_mask, weight)
            _, again = self._align_query(query_feature, prior, episode.text)
            meta, more = self.decoder(query_feature, (support_prototype_bc + again) / 2, hyper, prior)
            auxiliary, priors = auxiliary + more, {**priors, "refined prior": prior}
        looks["meta"] = meta

        # Correct by what the base learner claims.
        own_class = episode.base_id if self.training else None
        calibration, shares = self.settings.calibration, None
        if calibration != "none":  # beyond the paper: by what it claims of the supports
            f4 = support.stage[HIGH]
            shares = claimed_shares(self.base_learner, f4, episode.support_label, weight, own_class)
        if calibration == "likelihood":
            final = with_likelihood(meta, base_logits, shares, own_class)
        else:
            final = self.ensemble(meta, base_logits, scene, own_class, None if shares is None else trust(shares))

        size = episode.query.shape[-2:]
        extra = {name: resize(x.float(), size) for name, x in looks.items()}
        base_logits = resize(base_logits.float(), size)
        maps = {name: x[:, 0].float() for name, x in priors.items()}
        output = Output(resize(final.float(), size), base_logits, extra, maps)
        if self.training:
            output.losses = {
                "main": self._loss(output.logits, episode),
                **self._auxiliary_losses(list(extra.values()), base_logits, auxiliary, episode),
                "triplet": self.settings.aux_weight
                * (
                    support_triplet(support_prototype_bc, support_feature.unflatten(0, (batch, shots)), mask)
                    + query_triplet(query_prototype_bc, own)
                ),
            }
        return output

    def _align_support(self, feature: Tensor, small_mask: Tensor, text: Tensor, shots: int) -> Tensor:
        """Return the aligned prototype of every shot, r_k, (B, K, C)."""
        prototype = support_prototype(feature, small_mask)  # p_k
        text = text.repeat_interleave(shots, dim=0)
        return self.align(feature * small_mask, text, prototype).unflatten(0, (-1, shots))

    def _align_query(self, feature: Tensor, prior: Tensor, text: Tensor) -> tuple[QueryPrototypes, Tensor]:
        """Return the query's own prototypes by a prior, and its aligned one, r_q, (B, C)."""
        own = query_prototypes(feature, prior)
        return own, self.align(feature * prior, text, own.foreground)

    def _loss(self, logits: Tensor, episode: Episode) -> Tensor:
        """Return the cross-entropy of two-class logits of any size."""
        label = episode.query_label
        return cross_entropy(resize(logits.float(), label.shape[-2:]), label, self.settings.foreground_weight)

    def _auxiliary_losses(self, looks: list[Tensor], base: Tensor, auxiliary: list[Tensor], episode: Episode) -> dict:
        weight = self.settings.aux_weight
        return {
            "meta": weight * torch.stack([self._loss(x, episode) for x in looks]).sum(),
            "base": weight * cross_entropy(base, episode.query_base_label),
            "inner": weight * torch.stack([self._loss(x, episode) for x in auxiliary]).mean(),
        }

    # --- what the engine asks ----------------------------------------------------------------------------------------

    def param_groups(self) -> list[ParamGroup]:
        """Return everything but encoder and base learner, with one learning rate."""
        return [ParamGroup("meta", [p for p in self.parameters() if p.requires_grad])]
