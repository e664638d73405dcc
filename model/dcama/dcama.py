"""DCAMA: the query's mask as an attention-weighted mean of the supports' masks, at every intermediate feature.

Read ``DCAMA.forward`` first; ``mask_aggregation.py`` is the attention, softmax(Q K^T / sqrt(d)) M over the positions of
all supports, ``decoder.py`` follows it.
Source: Shi et al., Dense Cross-Query-and-Support Attention Weighted Mask Aggregation for Few-Shot Segmentation, ECCV
2022.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.common.likeness import likeness_to_supports
from model.common.loss import mask_loss
from model.common.ops import foreground_mask
from model.common.published import Layout
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder, WithEncoderSettings
from model.contract import Task
from model.dcama.decoder import MaskDecoder
from model.dcama.mask_aggregation import MaskAggregation
from model.encoders.encoder import EncoderVariant
from model.encoders.features import Features
from model.encoders.resnet import ResNetEncoder
from model.encoders.settings import build_encoder
from model.encoders.swin import SWIN_NAMES, SwinEncoder
from model.episode import Episode, Output
from model.registry import register

STRIDE = 32  # of stage 4; every grid is exact for an image side that it divides
# torchvision's ResNet without dilation; of stage 1 only the last intermediate feature is of use.
ENCODER = EncoderVariant(dilation={}, intermediate={1: 1, LOW: None, MID: None, HIGH: None})

LAYOUT = Layout(
    "DCAMA",
    ("model.DCAMA_blocks.0.linears.0.weight", "model.mixer1.0.weight"),
    (
        (r"feature_extractor\.conv1\.(.*)", r"encoder.layer0.0.\1"),
        (r"feature_extractor\.bn1\.(.*)", r"encoder.layer0.1.\1"),
        (r"feature_extractor\.(layer[1-4]\..*)", r"encoder.\1"),
        *((rf"feature_extractor\.{published}", rf"encoder.{ours}") for published, ours in SWIN_NAMES),
        *((rf"model\.DCAMA_blocks\.{i}\.linears\.0\.(.*)", rf"aggregate.{i + 2}.query.\1") for i in range(3)),
        *((rf"model\.DCAMA_blocks\.{i}\.linears\.1\.(.*)", rf"aggregate.{i + 2}.key.\1") for i in range(3)),
        *((rf"model\.conv{i}\.(.*)", rf"decoder.enter.{5 - i}.\1") for i in (1, 2, 3)),
        *((rf"model\.conv{i}\.(.*)", rf"decoder.merge.{7 - i}.\1") for i in (4, 5)),
        (r"model\.(mixer[1-3])\.(.*)", r"decoder.\1.\2"),
    ),
    r"model\.pe\..*|.*\.relative_position_index|.*\.attn_mask|feature_extractor\.(?:fc|norm|head)\..*",
)


@dataclass
class DCAMASettings(WithEncoderSettings):
    """DCAMA's own settings; ``config/model/dcama.yaml`` explains them."""


@register("dcama")
class DCAMA(WithEncoder):
    """Dense cross-query-and-support attention weighted mask aggregation. All shots enter one attention together."""

    Settings = DCAMASettings
    title = "DCAMA"
    published = LAYOUT
    families, stride = (ResNetEncoder, SwinEncoder), STRIDE
    reads_intermediate = True
    size_rule = (STRIDE, 0)
    shots_share_weights = True

    def __init__(self, settings: DCAMASettings, task: Task):
        super().__init__(settings, task)
        self.encoder = build_encoder(settings.encoder, variant=ENCODER)
        channels = self.encoder.channels
        self.aggregate = nn.ModuleDict({str(i): MaskAggregation(channels[i]) for i in (LOW, MID, HIGH)})
        self.decoder = MaskDecoder(self.encoder.intermediate_counts, channels)
        self.freeze()

    def forward(self, episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the cross-entropy ``main``."""
        mask = foreground_mask(episode.support_label)  # M_k, (B, K, 1, S, S)

        # The encoder, frozen unless a part of it learns.
        with self.encoder_grad():
            query, support = self.encode(episode)
            if not self.training:
                evidence = likeness_to_supports(query.stage[HIGH], support.stage[HIGH], mask)
            query.stage.clear()
            support.stage.clear()
            skips = self._skips(query, support, shots=mask.shape[1])

        # Aggregate the supports' masks at every intermediate feature: stage 2, 3, 4 -> (B, n, h, w). These features are
        # most of the memory, and those of a stage are released with its masks. Then decode.
        masks = {}
        for name, aggregate in self.aggregate.items():
            i = int(name)
            masks[i] = aggregate(query.intermediate.pop(i), support.intermediate.pop(i), mask)
        logits = self.decoder(masks, skips, episode.query.shape[-2:]).float()

        output = Output(logits)
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            output.losses = {"main": mask_loss(logits, episode.query_label == 1)}
        else:
            output.evidence = evidence
        return output

    def _skips(self, query: Features, support: Features, shots: int) -> dict[int, Tensor]:
        """Return stage 1, 2 -> the last intermediate feature of the query beside the supports', (B, 2 C, h, w).

        Shots are reduced to their element-wise maximum. Nothing of stage 1 is left in ``query`` and ``support``.
        """
        skips = {}
        for i in (1, LOW):
            of_shots = support.intermediate[i][-1].unflatten(0, (-1, shots))  # (B, K, C, h, w)
            skips[i] = torch.cat([query.intermediate[i][-1], of_shots.amax(1)], dim=1)
        del query.intermediate[1], support.intermediate[1]
        return skips
