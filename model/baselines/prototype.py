"""The training-free baseline: cosine of each query position to the supports' foreground and background prototypes.

It is also the worked example of a new model: settings, declarations, and one forward pass.
"""

import torch
from torch import Tensor

from model.common.ops import foreground_mask, in_float32, masked_mean, mean_over_shots, resize
from model.common.prototype import TEMPERATURE, similarity
from model.common.training_free import TrainingFree, TrainingFreeSettings
from model.contract import Episode, Output, register


class PrototypeSettings(TrainingFreeSettings):
    """The baseline's settings; ``config/model/prototype.yaml`` explains them."""


@register("prototype")
class PrototypeBaseline(TrainingFree):
    """Masked-average prototypes and a cosine. Nothing learns, so it needs no checkpoint."""

    Settings = PrototypeSettings
    title = "prototype baseline"

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the two cosines as logits (B, 2, H, W), background first."""
        query, shots = self.encode_each(episode, self.compared)
        each = [_prototypes(feature, foreground_mask(label)) for feature, label in shots]
        foreground, background = mean_over_shots(torch.stack(each, dim=1)).unbind(1)  # (B, C)
        cosines = similarity(query, foreground, background) / TEMPERATURE  # (B, 2, h, w)
        return Output(resize(cosines, episode.query.shape[-2:]))


@in_float32
def _prototypes(support_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return one shot's foreground and background prototype, (B, 2, C)."""
    mask = resize(mask_b1hw, support_bchw.shape[-2:])
    return torch.stack([masked_mean(support_bchw, m) for m in (mask, 1 - mask)], dim=1)
