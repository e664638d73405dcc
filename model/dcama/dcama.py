"""DCAMA: the query's mask as an attention-weighted mean of the supports' masks, at every intermediate feature.

Read ``DCAMA.support`` and ``DCAMA.predict``; ``MaskAggregation`` is the attention, softmax(Q K^T / sqrt(d)) M
over the positions of all supports; the decoder goes from stacks of soft masks to logits, with skips from the encoder at
strides 8 and 4.
Source: Shi et al., Dense Cross-Query-and-Support Attention Weighted Mask Aggregation for Few-Shot Segmentation, ECCV
2022.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, product
from operator import itemgetter
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.contract import Episode, Output, Shot, Task, WithEncoderSettings, register
from model.dcama.published import LAYOUT
from model.encoders.variant import EncoderVariant
from model.method import HIGH, LOW, MID, Maps, Method, Wants
from model.parts.layers import two_convolutions
from model.parts.loss import mask_loss
from model.tensors.mask import Mask
from model.tensors.ops import joined, resize
from model.tensors.tokens import linear_over_map, split_heads

STRIDE = 32  # of stage 4; every grid is exact for an image side that it divides
HEADS = 8
DROPOUT = 0.5  # of feature plus position encoding, and of the attention, where a random bit decides
WAVELENGTH = 10000.0  # of the slowest position sinusoid
VALUE_WIDTH = 8  # columns of a value, one number and padding: GPU kernels need a multiple of 8 (``attended_mask``)
MAX_SCORES = 2**21  # attention scores held at a time where no fused kernel exists
# torchvision's ResNet without dilation; of stage 1 only the last intermediate feature is of use.
VARIANT = EncoderVariant(dilation={}, intermediate={1: 1, LOW: None, MID: None, HIGH: None})
# Of the decoder:
WIDTH = 128  # channels of the mixed masks
KERNELS = {4: (3, 3, 3), 3: (5, 3, 3), 2: (5, 5, 3)}  # stage -> kernel sides of its stack's three convolutions
GROUPS = 4  # of every group norm
MIXER = (128, 64, 64, 16, 16, 2)  # output channels of the three mixers' convolutions, two each


@dataclass
class DCAMAShot(Shot):
    """Values of n supports at all L positions of a stage's grid."""

    keys: dict[int, list[Tensor]]  # stage 2, 3, 4 -> of each intermediate feature, (n, L, C)
    masks: dict[int, Tensor]  # stage -> M_k, (n, L)
    skips: dict[int, Tensor]  # stage 1, 2 -> the last intermediate feature, (n, C, h, w)


@register("dcama")
class DCAMA(Method):
    """Dense cross-query-and-support attention weighted mask aggregation. All shots enter one attention together."""

    Settings = WithEncoderSettings  # the method has no settings of its own
    title = "DCAMA"
    protocol = "dcama"
    published = LAYOUT
    wants = Wants(stages=(HIGH,), blocks=True, variant=VARIANT)
    size_rule = (STRIDE, 0)
    shots_share_weights = True

    def __init__(self, settings: WithEncoderSettings, task: Task):
        super().__init__(settings, task)
        channels = self.encoder.channels
        self.aggregate = nn.ModuleDict({str(i): MaskAggregation(channels[i]) for i in (LOW, MID, HIGH)})
        self.decoder = MaskDecoder(self.encoder.intermediate_counts, channels)

    def support(self, maps: Maps, mask: Mask) -> DCAMAShot:
        """Return keys, masks and skips of n supports."""
        keys: dict[int, list[Tensor]] = {}
        masks: dict[int, Tensor] = {}
        skips: dict[int, Tensor] = {}
        for stage, features in _by_stage(maps):
            if stage <= LOW:
                skips[stage] = features[-1]
            if stage >= LOW:
                keys[stage] = self._aggregation(stage).keys(features)
                grid = features[0].shape[-2:]
                masks[stage] = mask.on(grid).flatten(1)
        return DCAMAShot(keys, masks, skips)

    def predict(self, maps: Maps, shots: Sequence[DCAMAShot], episode: Episode) -> Output:
        """Return logits (B, 2, S, S) and in training the cross-entropy ``main``."""
        masks = {}  # stage 2, 3, 4 -> the supports' masks, aggregated at each intermediate feature, (B, n, h, w)
        skips = {}  # stage 1, 2 -> the query's last intermediate feature beside the supports' largest, (B, 2 C, h, w)
        for stage, features in _by_stage(maps):
            if stage <= LOW:
                largest = torch.stack([shot.skips[stage] for shot in shots], dim=1).amax(1)
                skips[stage] = torch.cat([features[-1], largest], dim=1)
            if stage >= LOW:
                by_feature = zip(*(shot.keys[stage] for shot in shots), strict=True)
                keys = [joined(of_shots, dim=1) for of_shots in by_feature]  # all shots in one row, (B, K L, C)
                values = joined([shot.masks[stage] for shot in shots], dim=1)  # (B, K L)
                masks[stage] = self._aggregation(stage)(features, keys, values)
        logits = self.decoder(masks, skips, episode.query.shape[-2:]).float()

        output = Output(logits)
        if self.training:  # pixels to ignore count as background in the target, as in the supports
            output.losses = {"main": mask_loss(logits, episode.query_label == 1)}
            output.image_losses = ("main",)  # which count all pixels, ignored ones too
        return output

    def _aggregation(self, stage: int) -> "MaskAggregation":
        """Return the attention block of a stage."""
        return cast(MaskAggregation, self.aggregate[str(stage)])


def _by_stage(maps: Maps) -> Iterator[tuple[int, list[Tensor]]]:
    """Yield the intermediate features of one stage after the other."""
    for stage, blocks in groupby(maps.blocks(), key=itemgetter(0)):
        yield stage, [feature for _, feature in blocks]


class MaskAggregation(nn.Module):
    """The attention block of one stage, shared by the stage's intermediate features."""

    def __init__(self, channels: int):
        super().__init__()
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.key.load_state_dict(self.query.state_dict())  # keys start as copies of queries
        self.position_dropout = nn.Dropout(DROPOUT)
        self.attention_dropout = nn.Dropout(DROPOUT)

    def keys(self, support_maps: Sequence[Tensor]) -> list[Tensor]:
        """Return the keys of each of the stage's intermediate features (n, C, h, w), (n, L, C)."""
        size = support_maps[0].shape[-2:]
        position = position_encoding(support_maps[0])
        keys = []
        for support_map in support_maps:
            key = self.position_dropout(support_map.flatten(2).transpose(1, 2) + position)
            keys.append(linear_over_map(key, size, self.key.weight))
        return keys

    def forward(self, query_maps: Sequence[Tensor], keys: Sequence[Tensor], value_bm: Tensor) -> Tensor:
        """Return the soft mask of each of the stage's n intermediate features, (B, n, h, w) float32.

        Maps are n of (B, C, h, w), keys n of (B, m, C); the value, (B, m) float32, is 1 on the object.
        """
        size = query_maps[0].shape[-2:]
        position = position_encoding(query_maps[0])
        dropout = self.attention_dropout.training and self.attention_dropout.p > 0
        masks = []
        # One feature after the other: their scores never exist together, and those of one are enough to fill a device.
        for query_map, key in zip(query_maps, keys, strict=True):
            query = self.position_dropout(query_map.flatten(2).transpose(1, 2) + position)
            query = linear_over_map(query, size, self.query.weight, self.query.bias)
            masks.append(attended_mask(split_heads(query, HEADS), split_heads(key, HEADS), value_bm, dropout))
        # The keys' bias adds one number to all scores of a query position, which the softmax removes, so the products
        # leave it out. Checkpoints have it as a learnable tensor, and several processes exchange a gradient of every
        # such tensor: this is one, of 0.
        unused_bias = 0 * self.key.bias.sum()
        return torch.stack(masks, dim=1).unflatten(2, size) + unused_bias


def position_encoding(map_bchw: Tensor) -> Tensor:
    """Return sinusoids of the row-major position on a map's grid, (L, C): even channels are sines, odd ones cosines."""
    channels, device = map_bchw.shape[1], map_bchw.device
    rate = WAVELENGTH ** (-torch.arange(0, channels, 2, device=device) / channels)  # (C / 2,)
    position = torch.arange(map_bchw.shape[-2:].numel(), device=device)
    angle = position.unsqueeze(1) * rate
    return torch.stack([angle.sin(), angle.cos()], dim=2).flatten(1)


def attended_mask(query_bhld: Tensor, key_bhmd: Tensor, value_bm: Tensor, dropout: bool) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) value, mean over heads, (B, L) float32, in bounded memory.

    This is attention whose value is one number per key. With the value as the first of several columns,
    ``scaled_dot_product_attention`` returns the result in its first column, and its fused kernels hold no matrix. Those
    of GPUs accept a narrow value; those of CPUs need one as wide as the keys and have no dropout.
    """
    if dropout and not query_bhld.is_cuda:
        return _attended_in_pieces(query_bhld, key_bhmd, value_bm)
    heads, width = query_bhld.shape[1], query_bhld.shape[3]
    columns = VALUE_WIDTH if query_bhld.is_cuda else width
    value = F.pad(value_bm[:, None, :, None].to(query_bhld.dtype), (0, columns - 1))
    value = value.expand(-1, heads, -1, -1)  # (B, heads, K L, columns)
    probability = DROPOUT if dropout else 0.0
    attended = F.scaled_dot_product_attention(query_bhld, key_bhmd, value, dropout_p=probability)
    return attended[..., 0].float().mean(1)


def _attended_in_pieces(query_bhld: Tensor, key_bhmd: Tensor, value_bm: Tensor) -> Tensor:
    """Return ``attended_mask`` with dropout, whose scores the backward pass computes again, piece after piece."""
    scores_of_row = len(value_bm) * key_bhmd.shape[1] * key_bhmd.shape[2]
    rows = max(MAX_SCORES // scores_of_row, 1)
    pieces = query_bhld.split(rows, dim=2)
    masks = [checkpoint(_attended_of_piece, piece, key_bhmd, value_bm, use_reentrant=False) for piece in pieces]
    return torch.cat(masks, dim=1)


def _attended_of_piece(query_bhld: Tensor, key_bhmd: Tensor, value_bm: Tensor) -> Tensor:
    """Return ``attended_mask`` with dropout: each head keeps half of the keys and counts them twice."""
    query = query_bhld * query_bhld.shape[3] ** -0.5
    scores = query @ key_bhmd.transpose(2, 3)
    attention = torch.softmax(scores, dim=3, dtype=torch.float32)
    value = random_bits(attention) * (2 * value_bm)[:, None, None]
    return (attention * value).sum(3).mean(1)


def random_bits(like: Tensor) -> Tensor:
    """Return 0 or 1 for each element, uint8: eight of a random number, since a CPU's dropout draws one for each."""
    numbers = torch.empty(-(-like.numel() // 8), dtype=torch.int64, device=like.device).random_()
    return numbers.view(torch.uint8)[: like.numel()].view(like.shape) & 1


class MaskDecoder(nn.Module):
    """Encode each stage's stack, merge from stage 4 up to stage 2, then upsample to the image's size."""

    def __init__(self, intermediate_counts: dict[int, int], channels: dict[int, int]):
        super().__init__()
        self.enter = nn.ModuleDict(
            {str(stage): _block(intermediate_counts[stage], (16, 64, WIDTH), each) for stage, each in KERNELS.items()}
        )
        self.merge = nn.ModuleDict({str(stage): _block(WIDTH, (WIDTH,) * 3, KERNELS[4]) for stage in (3, 2)})
        skips = 2 * (channels[2] + channels[1])
        first = two_convolutions(WIDTH + skips, *MIXER[:2])
        second = two_convolutions(*MIXER[1:4])
        third = two_convolutions(*MIXER[3:])
        self.mixer1 = SkipMixer(*first, nn.ReLU(inplace=True))
        self.mixer2 = nn.Sequential(*second, nn.ReLU(inplace=True))
        self.mixer3 = nn.Sequential(*third)

    def forward(self, masks: dict[int, Tensor], skips: dict[int, Tensor], size: Sequence[int]) -> Tensor:
        """Return logits (B, 2, *size) of masks, stage -> (B, n, h, w), and skips, stage 1, 2 -> (B, 2 C, h, w)."""
        x = self.enter["4"](masks[4])
        for stage in (3, 2):
            finer = self.enter[str(stage)](masks[stage])
            coarser = resize(x, finer.shape[-2:])
            x = self.merge[str(stage)](coarser + finer)
        x = self.mixer1(torch.cat([x, skips[2]], dim=1), skips[1])  # at stride 4
        twice = [2 * side for side in x.shape[-2:]]
        x = self.mixer2(resize(x, twice))
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
            top = 2 - i
            left = 2 - j
            shifted = total[:, :, top : top + height, left : left + width]
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
