"""Sym-Net with steps beyond its paper: 4D correlation, a learned match, support calibration, foreground weight.

With default settings every step is off, and the numbers are those of the published method.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor, nn

from model.bam.with_base_learner import mid_features
from model.common.loss import cross_entropy
from model.common.ops import background_mask, foreground_mask, resize
from model.common.projection import WIDTH
from model.common.with_encoder import HIGH, LOW, MID
from model.episode import Episode
from model.registry import register
from model.symnet.decoder import Decoder
from model.symnet.extensions import match
from model.symnet.extensions.calibration import claimed_shares, with_likelihood
from model.symnet.extensions.conv4d import SUPPORT_GRID, Conv4dCorrelation
from model.symnet.extensions.match import Match
from model.symnet.hyper_correlation import CorrelationHead
from model.symnet.symnet import MAPS, Encoded, SymNet, SymNetSettings

NOT_USEFUL = "it did not improve results (docs/results.md)"


@dataclass
class CorrelationSettings:
    """The kind of hyper-correlation head, and for ``conv4d`` the side of its support grid (null: ``SUPPORT_GRID``)."""

    kind: Literal["pooled", "conv4d"] = "pooled"
    support_grid: int | None = field(default=None, metadata={"low": 4, "high": 32})


@dataclass
class SymNetPlusSettings(SymNetSettings):
    """The settings of the steps beyond the paper; ``config/model/symnet_plus.yaml`` explains them."""

    correlation: CorrelationSettings = field(default_factory=CorrelationSettings)
    calibration: Literal["none", "likelihood"] = field(default="none", metadata={"removed": {"discount": NOT_USEFUL}})
    self_support: Literal["none", "match"] = field(default="none", metadata={"removed": {"second_look": NOT_USEFUL}})
    foreground_weight: float = field(default=1.0, metadata={"low": 0})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy in words) if a setting contradicts another or the image side."""
        support_grid = self.correlation.support_grid
        if support_grid is not None and self.correlation.kind == "pooled":
            hint = "leave it null, or set the kind to conv4d"
            return "correlation.support_grid", f"= {support_grid} means nothing with correlation.kind: pooled; {hint}"
        return super().problem(size)


@register("symnet_plus")
class SymNetPlus(SymNet):
    """Sym-Net with named steps replaced as the settings ask; each step is explained in ``extensions/``."""

    Settings = SymNetPlusSettings
    title = "Sym-Net+"
    extension = None
    settings: SymNetPlusSettings

    def _build_correlation(self) -> CorrelationHead:
        if self.settings.correlation.kind == "pooled":
            return super()._build_correlation()
        grid = self.settings.correlation.support_grid or SUPPORT_GRID
        return Conv4dCorrelation(self.encoder.intermediate_counts, grid)

    def _build_decoder(self, scales: list[int]) -> Decoder:
        mid_channels = self.encoder.channels[MID] + self.encoder.channels[LOW]
        self.match = Match(mid_channels) if self.settings.self_support == "match" else None
        return Decoder(WIDTH, MAPS + (match.MAPS if self.match else 0), scales)

    def _decode(
        self, encoded: Encoded, query_feature: Tensor, prototype: Tensor, hyper: Tensor, prior: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return two-class logits by name; with a match these include it and its first ``guess``."""
        if self.match is None:
            return super()._decode(encoded, query_feature, prototype, hyper, prior)
        label, size = encoded.episode.support_label.flatten(0, 1), query_feature.shape[-2:]
        inside, outside = (resize(mask(label), size) for mask in (foreground_mask, background_mask))
        mid = mid_features(encoded.query), mid_features(encoded.support)
        predictions = self.match(*mid, inside, outside, encoded.weight)
        decoded, auxiliary = self.decoder(query_feature, prototype, hyper, prior, Match.seen(predictions["match"]))
        return {**predictions, "meta": self.match.add(decoded, predictions["match"])}, auxiliary

    def _ensemble(self, encoded: Encoded, meta: Tensor) -> Tensor:
        """Return the final logits; ``likelihood`` replaces the published ensemble."""
        if self.settings.calibration == "none":
            return super()._ensemble(encoded, meta)
        own_class = encoded.episode.own_class(self.training)
        f4, label = encoded.support.stage[HIGH], encoded.episode.support_label
        shares = claimed_shares(self.base_learner, f4, label, encoded.weight, own_class)
        return with_likelihood(meta, encoded.base_logits, shares, own_class)

    def _cross_entropy(self, logits: Tensor, episode: Episode) -> Tensor:
        """Return the cross-entropy of two-class logits, foreground pixels counting ``foreground_weight`` times."""
        label = episode.query_label
        return cross_entropy(resize(logits.float(), label.shape[-2:]), label, self.settings.foreground_weight)

    # --- the engine's questions --------------------------------------------------------------------------------------

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, and the published ensemble where a calibration replaces it."""
        yield from super().frozen()
        if self.settings.calibration != "none":
            yield self.ensemble
