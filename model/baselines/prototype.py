"""The training-free baseline: cosine of each query position to the supports' foreground and background prototypes.

It is also the worked example of a new model: settings, declarations, and one forward pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import foreground_mask, in_float32, masked_mean, mean_over_shots, resize
from model.common.training_free import TrainingFree, TrainingFreeSettings
from model.contract import Episode, Output, register


@dataclass
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
        prototypes = torch.stack([_prototypes(feature, foreground_mask(label)) for feature, label in shots], dim=1)
        return Output(resize(_cosines(query, mean_over_shots(prototypes)), episode.query.shape[-2:]))


@in_float32
def _prototypes(support_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return one shot's background and foreground prototype, (B, 2, C)."""
    mask = resize(mask_b1hw, support_bchw.shape[-2:])
    return torch.stack([masked_mean(support_bchw, m) for m in (1 - mask, mask)], dim=1)


@in_float32
def _cosines(query_bchw: Tensor, prototypes_bnc: Tensor) -> Tensor:
    """Return the cosine of every position to every prototype, (B, N, h, w)."""
    cosines = [F.cosine_similarity(query_bchw, p[:, :, None, None], dim=1) for p in prototypes_bnc.unbind(1)]
    return torch.stack(cosines, dim=1)
