"""The image encoder: torchvision's ResNet or VGG, giving stage outputs and taps, in the variants that methods use.

The default is the encoder of Sym-Net's section on implementation, at output stride 8 (VGG: 16); stages are numbered
0 (stem) to 4 as in the published checkpoints. ``model/encoders/swin.py`` gives a Swin transformer the same face.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models import resnet as tv_resnet
from torchvision.models import vgg as tv_vgg

from model.encoders.features import Features

DILATION = {3: 2, 4: 4}  # of every 3x3 convolution of the stage; its stride becomes 1
LAST_STAGE = 4
ENCODER_STRIDE = 8  # of ResNet's stages 2..4; an image side of 8k + 1 pixels gives a grid of k + 1
INTERMEDIATE_STAGES = (2, 3, 4)
MEMORY = torch.channels_last  # order of weights, and so of maps: convolutions are faster than in the usual order
VGG_STAGE_ENDS = (7, 14, 24, 34, 43)  # in torchvision's list: after each pool but the last, then after the last ReLU


@dataclass
class EncoderSettings:
    """The ``encoder`` section of every model's settings: which network, and what it starts from."""

    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101", "vgg16"] = "resnet50"
    stem: Literal["deep", "plain"] = "deep"
    weights: str | None = None
    partial: bool = False


@dataclass
class ResNetSettings(EncoderSettings):
    """The same section of a model that takes residual networks alone."""

    backbone: Literal["resnet10", "resnet18", "resnet34", "resnet50", "resnet101"] = "resnet50"


@dataclass(frozen=True)
class ResNetVariant:
    """What a method changes in a ResNet; the default is Sym-Net's.

    Attributes:
        dilation: stage -> dilation of its 3x3 convolutions; the stage's stride becomes 1.
        first_block_dilated: whether that includes the 3x3 convolution of a stage's first block, which else has the
            dilation of the stage before it, as in torchvision.
        final_relu: whether the last block of the last stage ends with its ReLU.
        taps: stage -> how many of its last taps are given when taps are asked for; None for all.
    """

    dilation: dict[int, int] = field(default_factory=lambda: dict(DILATION))
    first_block_dilated: bool = True
    final_relu: bool = True
    intermediate: dict[int, int | None] = field(default_factory=lambda: dict.fromkeys(INTERMEDIATE_STAGES))


Intermediate = bool | Callable[[int, Tensor], None]  # whether taps are asked for, or what they are given to


class Encoder(nn.Module):
    """Base of the encoders: ``forward(images, taps) -> Features``.

    Attributes:
        channels: stage -> channels of its output.
        intermediate_counts: stage -> number of taps.
        last_stage: the deepest stage that exists.
    """

    channels: dict[int, int]
    intermediate_counts: dict[int, int]
    last_stage: int

    def stages(self) -> list[nn.Module]:
        """Return the modules of stages 0..last_stage, in order."""
        return [getattr(self, f"layer{i}") for i in range(self.last_stage + 1)]

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """Encode normalised images; ``intermediate`` asks for the maps inside stages 2..4 as well.

        A function in its place is given (stage, tap) as soon as the map is there, and none is kept: together they take
        several times the memory of the encoder's own work.
        """
        raise NotImplementedError


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Return ``norm(conv(x))``; with fixed statistics as one convolution, which saves a pass over the map.

    A norm (y - mean) / deviation * weight + bias after y = W x is the convolution by (weight / deviation) W.
    """
    if norm.training:
        return norm(conv(x))
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight, bias = conv.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation)


def residual(block: nn.Module, x: Tensor) -> Tensor:
    """Return what one of torchvision's residual blocks computes before its last ReLU."""
    shortcut = x if block.downsample is None else conv_norm(*block.downsample, x)
    x = F.relu(conv_norm(block.conv1, block.bn1, x), inplace=True)
    x = conv_norm(block.conv2, block.bn2, x)
    if hasattr(block, "conv3"):
        x = conv_norm(block.conv3, block.bn3, F.relu(x, inplace=True))
    return x.add_(shortcut)


class ResNetEncoder(Encoder):
    """ResNet; unless the variant says otherwise at output stride 8, stages 3 and 4 dilated by 2 and 4."""

    def __init__(
        self, backbone: str, deep_stem: bool, last_stage: int = LAST_STAGE, variant: ResNetVariant | None = None
    ):
        super().__init__()
        self.variant = variant = variant or ResNetVariant()
        net = _residual_network(backbone)
        stem_width = net.conv1.out_channels
        if deep_stem:
            conv1 = nn.Conv2d(3, stem_width, 3, stride=2, padding=1, bias=False)
            conv2 = nn.Conv2d(stem_width, stem_width, 3, padding=1, bias=False)
            conv3 = nn.Conv2d(stem_width, 2 * stem_width, 3, padding=1, bias=False)
            parts: list[nn.Module] = []
            for conv in (conv1, conv2, conv3):
                parts += [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]
            self.layer0 = nn.Sequential(*parts, net.maxpool)
            _widen_input(net.layer1[0], 2 * stem_width)
        else:
            self.layer0 = nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.last_stage = last_stage
        for i in range(1, last_stage + 1):
            stage = getattr(net, f"layer{i}")
            if i in variant.dilation:
                before = variant.dilation.get(i - 1, 1)
                _dilate(stage, variant.dilation[i], variant.dilation[i] if variant.first_block_dilated else before)
            setattr(self, f"layer{i}", stage)
        self.intermediate_stages = range(min(INTERMEDIATE_STAGES[0], *variant.intermediate), last_stage + 1)
        self.channels = {i: _out_channels(getattr(self, f"layer{i}")[-1]) for i in self.intermediate_stages}
        self.intermediate_counts = {
            i: len(self._intermediate_blocks(i)) for i in self.intermediate_stages if i in variant.intermediate
        }
        self.to(memory_format=MEMORY)

    def _stem(self, x: Tensor) -> Tensor:
        """Return stage 0: one or three convolutions, each with norm and ReLU, and a pool."""
        *layers, pool = self.layer0
        for conv, norm, relu in zip(layers[::3], layers[1::3], layers[2::3]):
            x = relu(conv_norm(conv, norm, x))
        return pool(x)

    def _intermediate_blocks(self, stage: int) -> range:
        """Return the positions of the blocks of a stage whose taps are given."""
        blocks = len(getattr(self, f"layer{stage}"))
        wanted = self.variant.intermediate.get(stage, 0)
        return range(0 if wanted is None else max(blocks - wanted, 0), blocks)

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`."""
        out = Features({}, {i: [] for i in self.intermediate_stages})
        give = intermediate if callable(intermediate) else out.add_intermediate
        x = self._stem(image_b3hw)
        for i in range(1, self.last_stage + 1):
            kept = self._intermediate_blocks(i) if intermediate else ()
            for position, block in enumerate(getattr(self, f"layer{i}")):
                tap = x = residual(block, x)
                if i < self.last_stage or position + 1 < len(getattr(self, f"layer{i}")) or self.variant.final_relu:
                    x = F.relu(tap, inplace=position not in kept)
                if position in kept:
                    give(i, tap)
            if i in self.intermediate_stages:
                out.stage[i] = x
        return out


class VGGEncoder(Encoder):
    """VGG-16 with batch norm and ceil-mode pools: stage 2 at stride 8, stages 3 and 4 at stride 16.

    Its taps: the raw outputs of the three convolutions of stage 3 (still at stride 8) as tap stage 2, those of
    stage 4 as tap stage 3, and stage 4's output as tap stage 4.
    """

    def __init__(self, last_stage: int = LAST_STAGE):
        super().__init__()
        layers = list(tv_vgg.vgg16_bn(weights=None).features)
        for layer in layers:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True
        starts = (0, *VGG_STAGE_ENDS[:-1])
        for i, (start, end) in enumerate(zip(starts, VGG_STAGE_ENDS, strict=True)):
            if i <= last_stage:
                setattr(self, f"layer{i}", nn.Sequential(*layers[start:end]))
        self.last_stage = last_stage
        self.channels = {i: c for i, c in {2: 256, 3: 512, 4: 512}.items() if i <= last_stage}
        self.intermediate_counts = {i: n for i, n in {2: 3, 3: 3, 4: 1}.items() if i <= last_stage}
        self.to(memory_format=MEMORY)

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`."""
        out = Features({}, {stage: [] for stage in INTERMEDIATE_STAGES})
        give = intermediate if callable(intermediate) else out.add_intermediate
        x = self.layer1(self.layer0(image_b3hw))
        for i in range(INTERMEDIATE_STAGES[0], self.last_stage + 1):
            for layer in getattr(self, f"layer{i}"):
                x = layer(x)
                if intermediate and i > INTERMEDIATE_STAGES[0] and isinstance(layer, nn.Conv2d):
                    give(i - 1, x)
            out.stage[i] = x
        if intermediate and self.last_stage == LAST_STAGE:
            give(LAST_STAGE, x)
        return out


def build_encoder(
    settings: EncoderSettings, last_stage: int = LAST_STAGE, variant: ResNetVariant | None = None
) -> Encoder:
    """Return the encoder that ``settings`` name, cut after ``last_stage``, with random weights."""
    if settings.backbone == "vgg16":
        return VGGEncoder(last_stage)
    return ResNetEncoder(settings.backbone, settings.stem == "deep", last_stage, variant)


def _residual_network(backbone: str) -> tv_resnet.ResNet:
    """Return torchvision's network with random weights; ResNet-10, one basic block a stage, is for tiny machines."""
    if backbone == "resnet10":
        return tv_resnet.ResNet(tv_resnet.BasicBlock, [1, 1, 1, 1])
    return getattr(tv_resnet, backbone)(weights=None)


def _out_channels(block: nn.Module) -> int:
    return (block.bn3 if hasattr(block, "bn3") else block.bn2).num_features


def _widen_input(block: nn.Module, channels: int) -> None:
    """Let the first block of stage 1 take the deep stem's channels."""
    stride, out = block.conv1.stride, block.conv1.out_channels
    kernel, padding = block.conv1.kernel_size, block.conv1.padding
    block.conv1 = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, bias=False)
    width = _out_channels(block)
    block.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))


def _dilate(stage: nn.Sequential, dilation: int, of_first_block: int) -> None:
    """Trade a stage's stride for dilation in every 3x3 convolution; the first block has a dilation of its own."""
    for position, block in enumerate(stage):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (dilation if position else of_first_block,) * 2
