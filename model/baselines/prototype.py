"""The training-free baseline: cosine of each query position to the supports' foreground and background prototypes.

It is also the shortest example of a method: declarations, what is kept of supports, and the prediction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model.contract import Episode, Output, Shot, register
from model.kinds.training_free import TrainingFree, TrainingFreeSettings
from model.method import Maps
from model.parts.self_support import TEMPERATURE, similarity
from model.tensors.mask import Mask
from model.tensors.ops import in_float32, masked_mean, mean_over_shots, resize


@dataclass
class PrototypeShot(Shot):
    """The prototypes of n supports."""

    foreground: Tensor  # (n, C)
    background: Tensor  # (n, C)


@register("prototype")
class PrototypeBaseline(TrainingFree):
    """Masked-average prototypes and a cosine. Nothing learns, so it needs no checkpoint."""

    Settings = TrainingFreeSettings  # the method has no settings of its own
    title = "prototype baseline"

    def support(self, maps: Maps, mask: Mask) -> PrototypeShot:
        """Return the prototypes of n supports."""
        feature = self.compared(maps)
        is_object = mask.on(feature.shape[-2:])
        return PrototypeShot(_prototype(feature, is_object), _prototype(feature, 1 - is_object))

    def predict(self, maps: Maps, shots: Sequence[PrototypeShot], episode: Episode) -> Output:
        """Return the two cosines as logits (B, 2, H, W), background first."""
        query = self.compared(maps)
        foreground = mean_over_shots(torch.stack([shot.foreground for shot in shots], dim=1))  # (B, C)
        background = mean_over_shots(torch.stack([shot.background for shot in shots], dim=1))  # (B, C)
        cosines = similarity(query, foreground, background) / TEMPERATURE  # (B, 2, h, w)
        return Output(resize(cosines, episode.query.shape[-2:]))


_prototype = in_float32(masked_mean)
