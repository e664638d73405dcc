"""The training-free baseline: cosine of each query position to the supports' foreground and background prototypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import foreground_mask, in_float32, masked_mean, resize
from model.common.with_encoder import WithEncoder
from model.contract import Episode, ModelSettings, Output, Task
from model.encoders.encoder import ENCODER_STRIDE
from model.encoders.settings import EncoderSettings, build_encoder
from model.registry import register

EPS = 5e-4


@dataclass
class Settings(ModelSettings):
    """The baseline's settings."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    stage: int = field(default=3, metadata={"low": 2, "high": 4})  # whose features are compared


@register("prototype")
class PrototypeBaseline(WithEncoder):
    """Masked-average prototypes and a cosine; nothing learns, so no checkpoint is needed."""

    Settings = Settings
    title = "prototype baseline"
    size_rule = (ENCODER_STRIDE, 1)
    learns = False
    any_size = True

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, last_stage=settings.stage)
        self.freeze()

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the two cosines as logits (B, 2, H, W), background first."""
        stage, masks = self.settings.stage, episode.support_label
        if isinstance(episode.support, list):  # images of any size go through the encoder one by one
            query, each = self.encode_any_size(episode)
            support = [f.stage[stage] for f in each]
        else:
            query, together = self.encode(episode)
            support = together.stage[stage].unflatten(0, episode.support.shape[:2]).unbind(1)
            masks = masks.unbind(1)
        shots = torch.stack([_prototypes(s, foreground_mask(m)) for s, m in zip(support, masks)])
        return Output(resize(_cosines(query.stage[stage], shots.mean(0)), episode.query.shape[-2:]))

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder."""
        yield self.encoder


@in_float32
def _prototypes(support_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return one shot's background and foreground prototype, (B, 2, C)."""
    mask = resize(mask_b1hw, support_bchw.shape[-2:])
    return torch.stack([masked_mean(support_bchw, m, EPS) for m in (1 - mask, mask)], dim=1)


@in_float32
def _cosines(query_bchw: Tensor, prototypes_bnc: Tensor) -> Tensor:
    cosines = [F.cosine_similarity(query_bchw, p[:, :, None, None], dim=1) for p in prototypes_bnc.unbind(1)]
    return torch.stack(cosines, dim=1)
