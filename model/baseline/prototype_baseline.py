"""The training-free baseline: cosine of each query position to the supports' foreground and background prototypes.

It is also the worked example of a new model: settings, declarations, and one forward pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import foreground_mask, in_float32, masked_mean, resize
from model.common.with_encoder import WithEncoder
from model.contract import Episode, EpisodeOfOriginalSizes, ModelSettings, Output, Task
from model.encoders.encoder import ENCODER_STRIDE
from model.encoders.features import Features
from model.encoders.settings import EncoderSettings, build_encoder
from model.registry import register

EPS = 5e-4  # in the masked mean of a support


@dataclass
class PrototypeSettings(ModelSettings):
    """The baseline's settings; ``config/model/prototype.yaml`` explains them."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    # The encoder stages whose features are compared.
    stage: int | list[int] = field(default=3, metadata={"low": 2, "high": 4, "length": (1, 3)})

    @property
    def stages(self) -> list[int]:
        """``stage`` as a list; the features of several stages are concatenated."""
        return self.stage if isinstance(self.stage, list) else [self.stage]


@register("prototype")
class PrototypeBaseline(WithEncoder):
    """Masked-average prototypes and a cosine. Nothing learns, so it needs no checkpoint."""

    Settings = PrototypeSettings
    title = "prototype baseline"
    size_rule = (ENCODER_STRIDE, 1)
    learns = False
    any_size = True
    settings: PrototypeSettings

    def __init__(self, settings: PrototypeSettings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, last_stage=max(settings.stages))
        self.freeze()

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the two cosines as logits (B, 2, H, W), background first."""
        query, shots = self._encode(episode)
        prototypes = torch.stack([_prototypes(feature, foreground_mask(label)) for feature, label in shots])
        return Output(resize(_cosines(query, prototypes.mean(0)), episode.query.shape[-2:]))

    def _encode(self, episode: Episode) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Return the queries' features (B, C, h, w), and of every shot features and labels (B, H, W)."""
        if isinstance(episode, EpisodeOfOriginalSizes):
            query, each = self.encode_any_size(episode)
            return self._compared(query), list(zip([self._compared(f) for f in each], episode.support_label))
        query, together = self.encode(episode)
        support = self._compared(together).unflatten(0, episode.support.shape[:2])  # (B, K, C, h, w)
        return self._compared(query), list(zip(support.unbind(1), episode.support_label.unbind(1)))

    def _compared(self, features: Features) -> Tensor:
        """Return the maps of the chosen stages on the first one's grid, concatenated, (B, C, h, w)."""
        maps = [features.stage[stage] for stage in self.settings.stages]
        return torch.cat([resize(x, maps[0].shape[-2:]) for x in maps], dim=1)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder."""
        yield from self.frozen_encoder()


@in_float32
def _prototypes(support_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return one shot's background and foreground prototype, (B, 2, C)."""
    mask = resize(mask_b1hw, support_bchw.shape[-2:])
    return torch.stack([masked_mean(support_bchw, m, EPS) for m in (1 - mask, mask)], dim=1)


@in_float32
def _cosines(query_bchw: Tensor, prototypes_bnc: Tensor) -> Tensor:
    """Return the cosine of every position to every prototype, (B, N, h, w)."""
    cosines = [F.cosine_similarity(query_bchw, p[:, :, None, None], dim=1) for p in prototypes_bnc.unbind(1)]
    return torch.stack(cosines, dim=1)
