"""Sym-Net with steps beyond its paper: 4D correlation, a learned match, support calibration, foreground weight.

With default settings every step is off, and the numbers are those of the published method. ``conv4d.py`` explains the
first, ``Match`` the second, ``calibration.py`` the third; the last is a factor of the loss.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from model.common.fixed_shapes import Choice, Objects
from model.common.layers import WIDTH, FeatureEnrichment
from model.common.loss import cross_entropy
from model.common.ops import background_mask, foreground_mask, in_float32, masked_mean, mean_over_shots, resize
from model.common.prototype import FOREGROUND_CHANNEL, self_support, similarity, with_own
from model.common.with_encoder import HIGH, LOW, MID, mid_features
from model.contract import Episode, register
from model.encoders.features import Features
from model.symnet.calibration import means_over_shots, positions, shot_means, with_likelihood
from model.symnet.conv4d import SUPPORT_GRID, Conv4dCorrelation
from model.symnet.correlation import PooledCorrelation
from model.symnet.symnet import MAPS, SymNet, SymNetSettings


@dataclass
class CorrelationSettings:
    """The kind of hyper-correlation head, and for ``conv4d`` the side of its support grid (null: ``SUPPORT_GRID``)."""

    kind: Literal["pooled", "conv4d"] = "pooled"
    support_grid: int | None = field(default=None, metadata={"low": 4, "high": 32})


@dataclass
class SymNetPlusSettings(SymNetSettings):
    """The settings of the steps beyond the paper; ``config/model/symnet_plus.yaml`` explains them."""

    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    calibration: Literal["none", "likelihood"] = "none"
    self_support: Literal["none", "match"] = "none"
    foreground_weight: float = field(default=1.0, metadata={"low": 0})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if a setting contradicts another or the image side."""
        support_grid = self.correlation.support_grid
        if support_grid is not None and self.correlation.kind == "pooled":
            hint = "leave it null, or set the kind to conv4d"
            return "correlation.support_grid", f"= {support_grid} means nothing with correlation.kind: pooled; {hint}"
        return super().problem(size)


class Match(nn.Module):
    """A learned match: cosines to prototypes in a learned space, after one self-support step (SSP).

    The decoder starts from random values, and its first hundreds of steps only discover that similarity to the support
    matters; fitting the base classes then makes it cautious on novel ones. Cosines to prototypes measure similarity
    from the first step on and for any class, so here the decoder only learns a correction of them. With V a learned 1x1
    convolution of the mid-level features [f3; f2],

        m_0 = 10 cos(V x_q, [b_s, p_s])                                  the supports' prototypes, background first
        m   = 10 cos(V x_q, [0.3 SSBP + 0.7 ASBP, (p_s + SSFP) / 2])     with prototypes of the query's confident areas
        meta = decoder(..., softmax(m)_1) + alpha m

    and both m_0 and m are trained with the query's mask. Cost: V on every image, and the self-support step;
    (C_2 + C_3) 256 + 1 parameters, and 1024 for one more input map of the decoder.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.project = nn.Conv2d(channels, WIDTH, 1, bias=False)
        self.share = nn.Parameter(torch.ones(()))  # alpha

    def prototypes(self, support_bchw: Tensor, label_bss: Tensor) -> Tensor:
        """Return the prototypes of object and background of one shot, (B, 2, C) float32."""
        support = self.project(support_bchw)
        masks = [resize(mask(label_bss), support.shape[-2:]) for mask in (foreground_mask, background_mask)]
        return torch.stack([in_float32(masked_mean)(support, mask) for mask in masks], dim=1)

    def forward(self, query_bchw: Tensor, prototypes_bk2c: Tensor, weight_bk: Tensor) -> dict[str, Tensor]:
        """Return m_0 as ``guess`` and m as ``match``, logits (B, 2, h, w) float32, background first."""
        return self._compare(self.project(query_bchw), prototypes_bk2c, weight_bk)

    @in_float32
    def _compare(self, query: Tensor, prototypes_bk2c: Tensor, weight_bk: Tensor) -> dict[str, Tensor]:
        foreground, background = (mean_over_shots(x, weight_bk) for x in prototypes_bk2c.unbind(2))  # p_s, b_s
        guess = similarity(query, foreground, background)
        own = self_support(query, guess)
        return {"guess": guess, "match": similarity(query, *with_own(foreground, own))}


@register("symnet_plus")
class SymNetPlus(SymNet):
    """Sym-Net with named steps replaced as the settings ask."""

    Settings = SymNetPlusSettings
    title = "Sym-Net+"
    settings: SymNetPlusSettings

    def _build_correlation(self) -> PooledCorrelation:
        if self.settings.correlation.kind == "pooled":
            return super()._build_correlation()
        grid = self.settings.correlation.support_grid or SUPPORT_GRID
        return Conv4dCorrelation(self.encoder.intermediate_counts, grid)

    def _build_decoder(self, scales: list[int]) -> FeatureEnrichment:
        mid_channels = self.encoder.channels[MID] + self.encoder.channels[LOW]
        self.match = Match(mid_channels) if self.settings.self_support == "match" else None
        return FeatureEnrichment(WIDTH, MAPS + (1 if self.match else 0), scales)  # with the match's probability

    def _choices(self, episode: Episode) -> dict[str, Choice]:
        """Return the positions at which the base learner is read."""
        if self.settings.calibration == "none":
            return {}
        label = episode.support_label.transpose(0, 1).flatten(0, 1)
        return {"sampled": lambda mask: positions(label, mask.shape[-2:])[1]}

    def _read_more(self, episode: Episode, k: int, support: Features, objects: Objects) -> Any:
        """Return prototypes of the match (B, 2, C) and means of the base learner, None for a step that is off."""
        label, prototypes, means = episode.support_label[:, k], None, None
        if self.match is not None:
            prototypes = self.match.prototypes(mid_features(support), label)
        if self.settings.calibration != "none":
            own_class = episode.own_class(self.training)
            means = shot_means(self.base_learner, support.stage[HIGH], label, own_class, objects)
        return prototypes, means

    def _decode(
        self, query: Features, more: Sequence[Any], weight: Tensor, *inputs: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return two-class logits by name; with a match these include it and its first ``guess``."""
        if self.match is None:
            return super()._decode(query, more, weight, *inputs)
        prototypes = torch.stack([prototypes for prototypes, _ in more], dim=1)  # (B, K, 2, C)
        predictions = self.match(mid_features(query), prototypes, weight)
        match = predictions["match"]
        seen = match.detach().softmax(1)[:, FOREGROUND_CHANNEL:]  # the match's foreground probability, (B, 1, h, w)
        decoded, auxiliary = self.decoder(*inputs, seen)
        return {**predictions, "meta": decoded.float() + self.match.share * match}, auxiliary

    def _final(self, more: Sequence[Any], weight: Tensor, *inputs: Any) -> Tensor:
        """Return the final logits; ``likelihood`` replaces the published ensemble."""
        if self.settings.calibration == "none":
            return super()._final(more, weight, *inputs)
        meta, base_logits, _, own_class = inputs
        return with_likelihood(meta, base_logits, means_over_shots([means for _, means in more], weight), own_class)

    @property
    def pixel_loss(self) -> Callable[[Tensor, Tensor], Tensor]:
        """The cross-entropy of two-class logits, foreground pixels counting ``foreground_weight`` times."""
        return partial(cross_entropy, foreground_weight=self.settings.foreground_weight)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, and the published ensemble where a calibration replaces it."""
        yield from super().frozen()
        if self.settings.calibration != "none":
            yield self.ensemble
