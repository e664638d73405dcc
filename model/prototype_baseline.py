"""The training-free baseline: cosine of each query position to the supports' foreground and background prototypes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model import encoder_weights
from model.contract import Episode, FewShotModel, Output, Task
from model.encoder import ENCODER_STRIDE, EncoderSettings, build_encoder, encode_together
from model.ops import foreground, in_float32, masked_mean, normalise, resize
from model.registry import register

EPS = 5e-4


@dataclass
class Settings:
    """The baseline's settings."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)
    stage: int = field(default=3, metadata={"low": 2, "high": 4})  # whose features are compared


@register("prototype")
class PrototypeBaseline(FewShotModel):
    """Masked-average prototypes and a cosine; nothing learns, so no checkpoint is needed."""

    Settings = Settings
    learns = False
    size_rule = (ENCODER_STRIDE, 1)

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, last_stage=settings.stage)
        self.freeze()

    @torch.no_grad()
    def forward(self, episode: Episode) -> Output:
        """Return the two cosines as logits (B, 2, S, S), background first."""
        images = normalise(episode.query), normalise(episode.support)
        query, support = encode_together(self.encoder, *images, taps=False)
        stage = self.settings.stage
        logits = _cosines(query.stage[stage], support.stage[stage], foreground(episode.support_label))
        return Output(resize(logits, episode.query.shape[-2:]))

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder."""
        yield self.encoder

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder; see ``model/encoder_weights.py``."""
        return encoder_weights.load_encoder(self.encoder, state, partial)


@in_float32
def _cosines(query_bchw: Tensor, support_nchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
    batch, shots = mask_bk1hw.shape[:2]
    mask = resize(mask_bk1hw.flatten(0, 1), support_nchw.shape[-2:])
    prototypes = [masked_mean(support_nchw, m, EPS).unflatten(0, (batch, shots)).mean(1) for m in (1 - mask, mask)]
    cosines = [F.cosine_similarity(query_bchw, p[:, :, None, None], dim=1) for p in prototypes]
    return torch.stack(cosines, dim=1)
