"""Sym-Net with steps beyond its paper: a learned match, support calibration, foreground weight.

With default settings every step is off, and the numbers are those of the published method. ``Match`` explains the
first, ``calibration.py`` the second; the last is a factor of the loss. Its config also has Sym-Net's ``correlation:
conv4d``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor, nn

from model.contract import Task, register
from model.encode import Maps, mid_features
from model.parts.layers import WIDTH, FeatureEnrichment
from model.parts.self_support import self_support, similarity, with_own
from model.parts.with_encoder import HIGH, LOW, MID
from model.symnet.calibration import Sampled, means_over_shots, sampled_logits, shot_means, with_likelihood
from model.symnet.settings import SymNetSettings
from model.symnet.steps import MAP_CHANNELS
from model.symnet.symnet import DecoderInputs, SymNet, SymNetShot
from model.tensors.mask import Mask
from model.tensors.ops import FOREGROUND_CHANNEL, in_float32, masked_mean, mean_over_shots, resize

float32_mean = in_float32(masked_mean)


@dataclass
class SymNetPlusSettings(SymNetSettings):
    """The settings of the steps beyond the paper."""

    # How the base learner is used. none: the published ensemble; likelihood: its predictions count for or against the
    # object, depending on whether they occur in the supports' objects or in their background (calibration.py)
    calibration: Literal["none", "likelihood"] = "none"
    # match: the decoder corrects cosines in a learned space, after one self-support step (Match)
    self_support: Literal["none", "match"] = "none"
    # Of foreground pixels in the two-class losses; above 1 the network predicts more foreground, where it would be too
    # cautious on novel classes
    foreground_weight: float = field(default=1.0, metadata={"low": 0})


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

    def prototypes(self, support_nchw: Tensor, mask: Mask) -> Tensor:
        """Return the prototypes of object and background of n supports, (n, 2, C) float32."""
        support = self.project(support_nchw)
        size = support.shape[-2:]
        foreground = float32_mean(support, mask.on(size))
        background = float32_mean(support, resize(mask.background, size))
        return torch.stack([foreground, background], dim=1)

    def forward(self, query_bchw: Tensor, prototypes_bk2c: Tensor, weight_bk: Tensor) -> dict[str, Tensor]:
        """Return m_0 as ``guess`` and m as ``match``, logits (B, 2, h, w) float32, background first."""
        foreground, background = (mean_over_shots(x, weight_bk) for x in prototypes_bk2c.unbind(2))  # p_s, b_s
        query = self.project(query_bchw)
        guess = similarity(query, foreground, background)
        joint_foreground, joint_background = with_own(foreground, self_support(query, guess))
        return {"guess": guess, "match": similarity(query, joint_foreground, joint_background)}


@dataclass
class SymNetPlusShot(SymNetShot):
    """The values of n supports that the steps beyond the paper read, None of a step that is off."""

    prototypes: Tensor | None = None  # of the match, (n, 2, C)
    sampled: Sampled | None = None  # of the base learner, for the calibration


@register("symnet_plus")
class SymNetPlus(SymNet):
    """Sym-Net with named steps replaced as the settings ask."""

    Settings = SymNetPlusSettings
    title = "Sym-Net+"
    shot_type = SymNetPlusShot
    settings: SymNetPlusSettings

    def __init__(self, settings: SymNetPlusSettings, task: Task):
        super().__init__(settings, task)
        self.foreground_weight = settings.foreground_weight

    def _build_decoder(self, scales: list[int]) -> FeatureEnrichment:
        mid_channels = self.encoder.channels[MID] + self.encoder.channels[LOW]
        self.match = Match(mid_channels) if self.settings.self_support == "match" else None
        return FeatureEnrichment(WIDTH, MAP_CHANNELS + (1 if self.match else 0), scales)  # with the match's probability

    def support(self, maps: Maps, mask: Mask) -> SymNetPlusShot:
        """Return what the published steps read of n supports, and those that are switched on."""
        shot = cast(SymNetPlusShot, super().support(maps, mask))
        if self.match is not None:
            shot.prototypes = self.match.prototypes(mid_features(maps), mask)
        if self.settings.calibration != "none":
            shot.sampled = sampled_logits(self.base_learner, maps[HIGH], mask)
        return shot

    def _decode(
        self, inputs: DecoderInputs, maps: Maps, shots: Sequence[SymNetPlusShot], weight: Tensor
    ) -> tuple[dict[str, Tensor], list[Tensor]]:
        """Return two-class logits by name; with a match these include it and its first ``guess``."""
        if self.match is None:
            return super()._decode(inputs, maps, shots, weight)
        prototypes = torch.stack([cast(Tensor, shot.prototypes) for shot in shots], dim=1)  # (B, K, 2, C)
        predictions = self.match(mid_features(maps), prototypes, weight)
        match = predictions["match"]
        foreground_b1hw = match.detach().softmax(1)[:, FOREGROUND_CHANNEL:]
        decoded, auxiliary = self.decoder(*inputs, foreground_b1hw)
        return {**predictions, "meta": decoded.float() + self.match.share * match}, auxiliary

    def _final(
        self,
        meta: Tensor,
        base_logits: Tensor,
        scene_distance: Tensor,
        spared: Tensor | None,
        *,
        shots: Sequence[SymNetPlusShot],
        weight: Tensor,
    ) -> Tensor:
        """Return the final logits; ``likelihood`` replaces the published ensemble."""
        if self.settings.calibration == "none":
            return super()._final(meta, base_logits, scene_distance, spared, shots=shots, weight=weight)
        means = [shot_means(cast(Sampled, shot.sampled), spared) for shot in shots]  # (B, 2, N + 1) each
        of_supports = means_over_shots(torch.stack(means, dim=1), weight)
        return with_likelihood(meta, base_logits, of_supports, spared)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield encoder and base learner, and the published ensemble where a calibration replaces it."""
        yield from super().frozen()
        if self.settings.calibration != "none":
            yield self.ensemble
