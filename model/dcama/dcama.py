"""DCAMA: the query's mask as an attention-weighted mean of the supports' masks, at every intermediate feature.

Read ``DCAMA.forward`` first; ``MaskAggregation`` is the attention, softmax(Q K^T / sqrt(d)) M over the positions of
all supports; the decoder goes from stacks of soft masks to logits, with skips from the encoder at strides 8 and 4.
Source: Shi et al., Dense Cross-Query-and-Support Attention Weighted Mask Aggregation for Few-Shot Segmentation, ECCV
2022.
"""

from collections.abc import Sequence
from functools import partial
from itertools import product

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.common.layers import two_convolutions
from model.common.loss import mask_loss
from model.common.ops import foreground_mask, linear_over_map, resize, split_heads
from model.common.presence import presence_features_of_maps
from model.common.published import Layout
from model.common.with_encoder import HIGH, LOW, MID, WithEncoder, WithEncoderSettings
from model.contract import Episode, Output, Task, register
from model.encoders.encoder import EncoderVariant
from model.encoders.resnet import ResNetEncoder
from model.encoders.swin import SWIN_NAMES, SwinEncoder

STRIDE = 32  # of stage 4; every grid is exact for an image side that it divides
HEADS = 8
DROPOUT = 0.5  # of feature plus position encoding, and of the attention
WAVELENGTH = 10000.0  # of the slowest position sinusoid
VALUE_WIDTH = 8  # columns of a value, one number and padding: GPU kernels need a multiple of 8 (``attended_mask``)
MAX_SCORES = 2**21  # attention scores held at a time where no fused kernel exists
# Of the decoder:
WIDTH = 128  # channels of the mixed masks
KERNELS = {4: (3, 3, 3), 3: (5, 3, 3), 2: (5, 5, 3)}  # stage -> kernel sides of its stack's three convolutions
GROUPS = 4  # of every group norm
MIXER = (128, 64, 64, 16, 16, 2)  # output channels of the three mixers' convolutions, two each
ENCODER_NAMES = (  # published, and ours
    (r"feature_extractor\.conv1\.(.*)", r"encoder.layer0.0.\1"),
    (r"feature_extractor\.bn1\.(.*)", r"encoder.layer0.1.\1"),
    (r"feature_extractor\.(layer[1-4]\..*)", r"encoder.\1"),
    *((rf"feature_extractor\.{published}", rf"encoder.{ours}") for published, ours in SWIN_NAMES),
)
ATTENTION_NAMES = (
    *((rf"model\.DCAMA_blocks\.{i}\.linears\.0\.(.*)", rf"aggregate.{i + 2}.query.\1") for i in range(3)),
    *((rf"model\.DCAMA_blocks\.{i}\.linears\.1\.(.*)", rf"aggregate.{i + 2}.key.\1") for i in range(3)),
)
DECODER_NAMES = (
    *((rf"model\.conv{i}\.(.*)", rf"decoder.enter.{5 - i}.\1") for i in (1, 2, 3)),
    *((rf"model\.conv{i}\.(.*)", rf"decoder.merge.{7 - i}.\1") for i in (4, 5)),
    (r"model\.(mixer[1-3])\.(.*)", r"decoder.\1.\2"),
)
LAYOUT = Layout(
    "DCAMA",
    ("model.DCAMA_blocks.0.linears.0.weight", "model.mixer1.0.weight"),
    (*ENCODER_NAMES, *ATTENTION_NAMES, *DECODER_NAMES),
    r"model\.pe\..*|.*\.relative_position_index|.*\.attn_mask|feature_extractor\.(?:fc|norm|head)\..*",
)


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
            query, support = self.encode_both(episode)
            if not self.training:
                presence_features = presence_features_of_maps(query.stage[HIGH], support.stage[HIGH], mask)
            query.stage.clear()
            support.stage.clear()
            # Stage 1, 2 -> the query's last intermediate feature beside the supports' largest, (B, 2 C, h, w).
            skips = {}
            for stage in (1, LOW):
                shots = support.intermediate[stage][-1].unflatten(0, mask.shape[:2])  # (B, K, C, h, w)
                skips[stage] = torch.cat([query.intermediate[stage][-1], shots.amax(1)], dim=1)
            del query.intermediate[1], support.intermediate[1]

        # Aggregate the supports' masks at every intermediate feature: stage 2, 3, 4 -> (B, n, h, w). These features are
        # most of the memory, and those of a stage are released with its masks. Then decode.
        masks = {}
        for name, aggregate in self.aggregate.items():
            stage = int(name)
            masks[stage] = aggregate(query.intermediate.pop(stage), support.intermediate.pop(stage), mask)
        logits = self.decoder(masks, skips, episode.query.shape[-2:]).float()

        output = Output(logits)
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            output.losses = {"main": mask_loss(logits, episode.query_label == 1)}
        else:
            output.presence_features = presence_features
        return output


class MaskAggregation(nn.Module):
    """The attention block of one stage, shared by the stage's intermediate features."""

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.key.load_state_dict(self.query.state_dict())  # keys start as copies of queries
        self.position_dropout = nn.Dropout(DROPOUT)
        self.attention_dropout = nn.Dropout(DROPOUT)

    def forward(self, query_maps: list[Tensor], support_maps: list[Tensor], mask_bk1hw: Tensor) -> Tensor:
        """Return the soft mask of each of the stage's n intermediate features, (B, n, h, w) float32.

        Maps are n of (B, C, h, w) and of (B K, C, h, w); the mask, (B, K, 1, S, S) float32, is 1 on the object.
        """
        batch = len(mask_bk1hw)
        channels = query_maps[0].shape[1]
        size = query_maps[0].shape[-2:]
        value = resize(mask_bk1hw.flatten(0, 1), size).view(batch, -1)  # (B, K L)
        position = position_encoding(channels, size.numel(), value.device)  # (L, C)
        dropout = self.attention_dropout.p if self.attention_dropout.training else 0.0
        masks = []
        # One feature after the other: their scores never exist together, and those of one are enough to fill a device.
        for query_map, support_map in zip(query_maps, support_maps, strict=True):
            query = self.position_dropout(query_map.flatten(2).transpose(1, 2) + position)
            key = self.position_dropout(support_map.flatten(2).transpose(1, 2) + position)
            query = linear_over_map(query, size, self.query.weight, self.query.bias)
            key = linear_over_map(key, size, self.key.weight)
            key = key.reshape(batch, -1, channels)  # (B, K L, C), all shots in one row
            masks.append(attended_mask(split_heads(query, HEADS), split_heads(key, HEADS), value, dropout))
        # The keys' bias adds one number to all scores of a query position, which the softmax removes, so the products
        # leave it out. Checkpoints have it as a learnable tensor, and several processes exchange a gradient of every
        # such tensor: this is one, of 0.
        unused_bias = 0 * self.key.bias.sum()
        return torch.stack(masks, dim=1).unflatten(2, size) + unused_bias


def position_encoding(channels: int, length: int, device: torch.device) -> Tensor:
    """Return sinusoids of the row-major position on a grid, (L, C): sines in even channels, cosines in odd ones."""
    rate = WAVELENGTH ** (-torch.arange(0, channels, 2, device=device) / channels)  # (C / 2,)
    angle = torch.arange(length, device=device).unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def attended_mask(query_bhld: Tensor, key_bhmd: Tensor, value_bm: Tensor, dropout: float) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) value, mean over heads, (B, L) float32, in bounded memory.

    This is attention whose value is one number per key. With the value as the first of several columns,
    ``scaled_dot_product_attention`` returns the result in its first column, and its fused kernels hold no matrix. Those
    of GPUs accept a narrow value; those of CPUs need one as wide as the keys and have no dropout, so on a CPU training
    splits the queries into pieces, which the backward pass computes again.
    """
    heads, length, width = query_bhld.shape[1:]
    keys = key_bhmd.shape[2]
    fused = query_bhld.is_cuda or not dropout
    rows = length if fused else max(MAX_SCORES // (len(value_bm) * heads * keys), 1)
    columns = VALUE_WIDTH if query_bhld.is_cuda or dropout else width
    value = F.pad(value_bm[:, None, :, None].to(query_bhld.dtype), (0, columns - 1))
    value = value.expand(-1, heads, -1, -1)  # (B, heads, K L, columns)
    attend = partial(F.scaled_dot_product_attention, key=key_bhmd, value=value, dropout_p=dropout)
    compute_again = torch.is_grad_enabled() and rows < length
    masks = []
    for piece in query_bhld.split(rows, dim=2):
        attended = checkpoint(attend, piece, use_reentrant=False) if compute_again else attend(piece)
        masks.append(attended[..., 0].float().mean(1))
    return torch.cat(masks, dim=1)


class MaskDecoder(nn.Module):
    """Encode each stage's stack, merge from stage 4 up to stage 2, then upsample to the image's size."""

    def __init__(self, intermediate_counts: dict[int, int], channels: dict[int, int]):
        super().__init__()
        self.enter = nn.ModuleDict()
        for stage, kernels in KERNELS.items():
            self.enter[str(stage)] = _block(intermediate_counts[stage], (16, 64, WIDTH), kernels)
        self.merge = nn.ModuleDict()
        for stage in (3, 2):
            self.merge[str(stage)] = _block(WIDTH, (WIDTH,) * 3, KERNELS[4])
        skips = 2 * channels[2] + 2 * channels[1]
        self.mixer1 = SkipMixer(*two_convolutions(WIDTH + skips, *MIXER[:2]), nn.ReLU(inplace=True))
        self.mixer2 = nn.Sequential(*two_convolutions(*MIXER[1:4]), nn.ReLU(inplace=True))
        self.mixer3 = nn.Sequential(*two_convolutions(*MIXER[3:]))

    def forward(self, masks: dict[int, Tensor], skips: dict[int, Tensor], size: Sequence[int]) -> Tensor:
        """Return logits (B, 2, *size) of masks, stage -> (B, n, h, w), and skips, stage 1, 2 -> (B, 2 C, h, w)."""
        x = self.enter["4"](masks[4])
        for stage in (3, 2):
            finer = self.enter[str(stage)](masks[stage])
            x = self.merge[str(stage)](resize(x, finer.shape[-2:]) + finer)
        x = self.mixer1(torch.cat([x, skips[2]], dim=1), skips[1])  # at stride 4
        x = self.mixer2(resize(x, [2 * side for side in x.shape[-2:]]))
        return self.mixer3(resize(x, size))


class SkipMixer(nn.Sequential):
    """Convolutions over the concatenation of a coarse map, resized to a fine map's grid, and that fine map."""

    def forward(self, coarse_bchw: Tensor, fine_bchw: Tensor) -> Tensor:  # type: ignore[override]  # takes two maps
        """Return the output of the convolutions, at the fine map's size.

        The first has a part for each map. Resizing acts on positions and each of the kernel's cells on channels: they
        commute, so the products of coarse map and nine cells are computed on its own grid, resized, and added, each
        shifted by its cell's offset.
        """
        first, *rest = self
        assert isinstance(first, nn.Conv2d)
        coarse, fine = first.weight.split([coarse_bchw.shape[1], fine_bchw.shape[1]], dim=1)
        x = F.conv2d(fine_bchw, fine, first.bias, padding=1)
        height, width = x.shape[-2:]
        total = F.pad(torch.zeros_like(x), (1, 1, 1, 1))  # in the layout of the map
        for i, j in product(range(3), repeat=2):  # at position p, cell (i, j) reads position p + (i, j) - 1
            products = F.conv2d(coarse_bchw, coarse[:, :, i : i + 1, j : j + 1])
            shifted = total[:, :, 2 - i : 2 - i + height, 2 - j : 2 - j + width]
            shifted += resize(products, (height, width))
        x = x + total[:, :, 1:-1, 1:-1]
        for layer in rest:
            x = layer(x)
        return x


def _block(channels: int, widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.Sequential:
    """Return a sequence of convolution, group norm and ReLU for each width."""
    layers: list[nn.Module] = []
    for before, after, kernel in zip((channels, *widths), widths, kernels):
        layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
