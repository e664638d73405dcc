"""DCAMA: the query's mask as an attention-weighted mean of the supports' masks, at every tap of a frozen encoder.

Read ``DCAMA.forward`` first; ``mask_aggregation.py`` is the attention, ``decoder.py`` follows it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from model.common.loss import cross_entropy
from model.common.ops import foreground_mask
from model.common.with_encoder import WithEncoder
from model.contract import Episode, ModelSettings, Output, ParamGroup, Task
from model.dcama.decoder import MaskDecoder
from model.dcama.mask_aggregation import MaskAggregation
from model.dcama.published import LAYOUT
from model.encoders.encoder import LAST_STAGE, Encoder, EncoderVariant
from model.encoders.registry import ENCODERS
from model.encoders.resnet import PLAIN, ResNetEncoder
from model.encoders.settings import encoder_of
from model.encoders.swin import SwinEncoder
from model.registry import register

STRIDE = 32  # of stage 4; an image side that it divides makes every grid exact
# torchvision's ResNet without dilation; of stage 1 only the last intermediate feature is of use.
ENCODER = EncoderVariant(dilation={}, intermediate={1: 1, 2: None, 3: None, 4: None})


@dataclass
class EncoderSettings:
    """The encoder, a ResNet with a plain stem or Swin-B, and the weights that it starts from."""

    backbone: str = encoder_of(ResNetEncoder, SwinEncoder)
    weights: str | None = None
    partial: bool = False

    def build(self) -> Encoder:
        """Return the encoder with random weights."""
        return ENCODERS[self.backbone].build(PLAIN, LAST_STAGE, ENCODER)


@dataclass
class Settings(ModelSettings):
    """DCAMA's own settings; ``config/model/dcama.yaml`` explains them."""

    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    def sides(self) -> tuple[int, ...] | None:
        """Return the one side of Swin's windows and grids; residual networks take every multiple of their stride."""
        return ENCODERS[self.encoder.backbone].sides


@register("dcama")
class DCAMA(WithEncoder):
    """Dense cross-query-and-support attention weighted mask aggregation. All shots enter one attention together."""

    Settings = Settings
    title = "DCAMA"
    published = LAYOUT
    reads_intermediate = True
    size_rule = (STRIDE, 0)
    shots_share_weights = True

    def __init__(self, settings: Settings, task: Task):
        super().__init__(settings, task)
        self.encoder = settings.encoder.build()
        channels = self.encoder.channels
        self.aggregate = nn.ModuleDict({str(i): MaskAggregation(channels[i]) for i in (2, 3, 4)})
        self.decoder = MaskDecoder(self.encoder.intermediate_counts, channels)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the cross-entropy ``main``."""
        masks, skips = self._aggregate(episode)
        logits = self.decoder(masks, skips, episode.query.shape[-2:]).float()

        output = Output(logits)
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            output.losses = {"main": cross_entropy(logits, episode.query_label == 1)}
        return output

    def _aggregate(self, episode: Episode) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Return the soft masks of stages 2..4, (B, n, h, w), and the skips of stages 1 and 2, (B, 2 C, h, w).

        Taps are most of the memory: a stage's are let go as soon as its masks are there.
        """
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)
        with torch.no_grad():
            query, support = self.encode(episode)
            query.stage.clear(), support.stage.clear()
            skips = {}
            for i in (1, 2):  # last taps of the query and, element-wise maximum over shots, of the supports
                shots = support.intermediate[i][-1].unflatten(0, mask.shape[:2])
                skips[i] = torch.cat([query.intermediate[i][-1], shots.amax(1)], dim=1)
        del query.intermediate[1], support.intermediate[1]
        masks = {
            int(i): b(query.intermediate.pop(int(i)), support.intermediate.pop(int(i)), mask)
            for i, b in self.aggregate.items()
        }
        return masks, skips

    # --- what the engine asks ----------------------------------------------------------------------------------------

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the encoder."""
        yield self.encoder

    def param_groups(self) -> list[ParamGroup]:
        """Return attention and decoder, with one learning rate."""
        return [ParamGroup("head", [p for p in self.parameters() if p.requires_grad])]
