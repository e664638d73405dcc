"""DCAMA: the query's mask as an attention-weighted mean of the supports' masks, at every intermediate feature.

Read ``DCAMA.forward`` first; ``mask_aggregation.py`` is the attention, softmax(Q K^T / sqrt(d)) M over the positions of
all supports; the decoder goes from stacks of soft masks to logits, with skips from the encoder at strides 8 and 4.
Source: Shi et al., Dense Cross-Query-and-Support Attention Weighted Mask Aggregation for Few-Shot Segmentation, ECCV
2022.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.layers import two_convolutions
from model.common.likeness import likeness_to_supports
from model.common.loss import mask_loss
from model.common.ops import foreground_mask, resize
from model.common.published import Layout
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder, WithEncoderSettings
from model.contract import Episode, Output, Task, register
from model.dcama.mask_aggregation import MaskAggregation
from model.encoders.encoder import EncoderVariant
from model.encoders.features import Features
from model.encoders.resnet import ResNetEncoder
from model.encoders.swin import SWIN_NAMES, SwinEncoder

STRIDE = 32  # of stage 4; every grid is exact for an image side that it divides
WIDTH = 128  # channels of the mixed masks
KERNELS = {4: (3, 3, 3), 3: (5, 3, 3), 2: (5, 5, 3)}  # stage -> kernel sides of its stack's three convolutions
GROUPS = 4  # of every group norm
MIXER = (128, 64, 64, 16, 16, 2)  # output channels of the three mixers' convolutions, two each
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
    # torchvision's ResNet without dilation; of stage 1 only the last intermediate feature is of use.
    variant = EncoderVariant(dilation={}, intermediate={1: 1, LOW: None, MID: None, HIGH: None})
    reads_intermediate = True
    size_rule = (STRIDE, 0)
    shots_share_weights = True

    def __init__(self, settings: DCAMASettings, task: Task):
        super().__init__(settings, task)
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
        """Take stage 1, 2 -> last intermediate feature of the query beside the supports' largest, (B, 2 C, h, w)."""
        skips = {}
        for i in (1, LOW):
            of_shots = support.intermediate[i][-1].unflatten(0, (-1, shots))  # (B, K, C, h, w)
            skips[i] = torch.cat([query.intermediate[i][-1], of_shots.amax(1)], dim=1)
        del query.intermediate[1], support.intermediate[1]
        return skips


class MaskDecoder(nn.Module):
    """Encode each stage's stack, merge from stage 4 up to stage 2, then upsample to the image's size."""

    def __init__(self, intermediate_counts: dict[int, int], channels: dict[int, int]):
        super().__init__()
        self.enter = nn.ModuleDict(
            {str(i): _block(intermediate_counts[i], (16, 64, WIDTH), kernels) for i, kernels in KERNELS.items()}
        )
        self.merge = nn.ModuleDict({str(i): _block(WIDTH, (WIDTH,) * 3, KERNELS[4]) for i in (3, 2)})
        skips = 2 * channels[2] + 2 * channels[1]
        self.mixer1 = SkipMixer(*two_convolutions(WIDTH + skips, *MIXER[:2]), nn.ReLU(inplace=True))
        self.mixer2 = nn.Sequential(*two_convolutions(*MIXER[1:4]), nn.ReLU(inplace=True))
        self.mixer3 = nn.Sequential(*two_convolutions(*MIXER[3:]))

    def forward(self, masks: dict[int, Tensor], skips: dict[int, Tensor], size: Sequence[int]) -> Tensor:
        """Return logits (B, 2, *size) of masks, stage -> (B, n, h, w), and skips, stage 1, 2 -> (B, 2 C, h, w)."""
        x = self.enter["4"](masks[4])
        for stage in (3, 2):
            x = self.merge[str(stage)](resize(x, masks[stage].shape[-2:]) + self.enter[str(stage)](masks[stage]))
        x = self.mixer1(torch.cat([x, skips[2]], dim=1), skips[1])  # at stride 4
        x = self.mixer2(resize(x, [2 * side for side in x.shape[-2:]]))
        return self.mixer3(resize(x, size))


class SkipMixer(nn.Sequential):
    """Convolutions over the concatenation of a coarse map, resized to a fine map's grid, and that fine map."""

    def forward(self, coarse_bchw: Tensor, fine_bchw: Tensor) -> Tensor:  # type: ignore[override]  # takes two maps
        """Return the output of the convolutions, at the fine map's size.

        The first is split into a part for each map, of which the coarse map's runs on the coarse grid.
        """
        first, *rest = self
        assert isinstance(first, nn.Conv2d)
        coarse, fine = first.weight.split([coarse_bchw.shape[1], fine_bchw.shape[1]], dim=1)
        x = F.conv2d(fine_bchw, fine, first.bias, padding=1)
        x = x + convolve_resized(coarse_bchw, coarse, fine_bchw.shape[-2:])
        for layer in rest:
            x = layer(x)
        return x


def convolve_resized(x_bchw: Tensor, weight_oc33: Tensor, size: Sequence[int]) -> Tensor:
    """Return conv2d(resize(x, size), weight, padding=1), with the products on x's own, smaller grid.

    Resizing acts on positions and each of the nine cells of the kernel on channels, so they commute: the 1x1
    convolution of x by every cell is resized, and the nine results are added, each shifted by its cell's offset.
    """
    height, width = size
    side = weight_oc33.shape[-1]
    out = x_bchw.new_zeros(len(x_bchw), len(weight_oc33), height + side - 1, width + side - 1)
    for i in range(side):
        for j in range(side):  # at position p, cell (i, j) reads position p + (i, j) - padding
            top, left = side - 1 - i, side - 1 - j
            product = resize(F.conv2d(x_bchw, weight_oc33[:, :, i : i + 1, j : j + 1]), size)
            out[:, :, top : top + height, left : left + width] += product
    edge = side // 2
    return out[:, :, edge : edge + height, edge : edge + width]


def _block(channels: int, widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.Sequential:
    """Return a sequence of convolution, group norm and ReLU for each width."""
    layers: list[nn.Module] = []
    for before, after, kernel in zip((channels, *widths), widths, kernels):
        layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
