"""EfficientNet-Lite (Tan and Le 2019, without squeeze-and-excitation) under timm's names of networks and tensors.

It is written out because the import of timm takes longer than the segmentation of a photo; the maps equal timm's.
Strides 4, 8, 16 and 32 end with groups 1, 2, 4 and 6 of ``net.blocks``, the stages. Their blocks' outputs are the
intermediate features.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import ceil, sqrt

import torch
from torch import Tensor, nn

from model.encoders.encoder import MEMORY_FORMAT
from model.encoders.folded_conv import FoldedConv, FoldedConvSame, NormAfterFolded, place_norm
from model.encoders.registry import LITES, register_encoder, title_of
from model.encoders.timm_base import NET, TimmEncoderBase
from model.encoders.variant import IMAGENET, STAGE_STRIDES, STRIDES, EncoderVariant, bare_name

WIDTH_AND_DEPTH = {
    "lite0": (1.0, 1.0),
    "lite1": (1.0, 1.1),
    "lite2": (1.1, 1.2),
    "lite3": (1.2, 1.4),
    "lite4": (1.4, 1.8),
}
STEM = 32  # channels
EXPANSION = 6
NORM_EPS = 1e-3
STAGES = (0, 1, 2, 3, 3, 4, 4)  # of each group of blocks
CLASSIFIER = ("conv_head.", "bn2.", "classifier.")


@dataclass(frozen=True)
class Group:
    """Blocks of equal width; the first one has the stride. Numbers are those of Lite0."""

    blocks: int
    kernel: int
    stride: int
    width: int


GROUPS = (
    Group(blocks=1, kernel=3, stride=1, width=16),
    Group(blocks=2, kernel=3, stride=2, width=24),
    Group(blocks=2, kernel=5, stride=2, width=40),
    Group(blocks=3, kernel=3, stride=2, width=80),
    Group(blocks=3, kernel=5, stride=1, width=112),
    Group(blocks=4, kernel=5, stride=2, width=192),
    Group(blocks=1, kernel=3, stride=1, width=320),
)


def _conv(
    given: int, out: int, kernel: int, *, stride: int = 1, dilation: int = 1, depthwise: bool = False
) -> FoldedConv:
    """Return a convolution whose map has ceil(side / stride), with timm's random values."""
    kind = FoldedConv if stride == 1 else FoldedConvSame
    padding = dilation * (kernel // 2) if stride == 1 else 0
    groups = given if depthwise else 1
    conv = kind(given, out, kernel, stride, padding=padding, dilation=dilation, groups=groups, bias=False)
    values = kernel**2 * out / groups  # that read an input
    nn.init.normal_(conv.weight, 0, sqrt(2 / values))
    return conv


class Norm(NormAfterFolded):
    """The norm after a convolution, which computes it while it is frozen, and the activation after it."""

    def __init__(self, conv: FoldedConv, activation: bool = True):
        super().__init__(conv.out_channels, NORM_EPS)
        self.drop = nn.Identity()
        self.act = nn.ReLU6(inplace=True) if activation else nn.Identity()
        place_norm(conv, self)


class First(nn.Module):
    """The block without expansion, of group 0."""

    def __init__(self, given: int, group: Group):
        super().__init__()
        self.conv_dw = _conv(given, given, group.kernel, depthwise=True)
        self.bn1 = Norm(self.conv_dw)
        self.conv_pw = _conv(given, group.width, 1)
        self.bn2 = Norm(self.conv_pw, activation=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, C, h, w)."""
        x = self.bn1(self.conv_dw(x))
        return self.bn2(self.conv_pw(x))


class Block(nn.Module):
    """An inverted residual block: expansion, depthwise convolution, projection."""

    def __init__(self, given: int, group: Group, stride: int, dilation: int):
        super().__init__()
        inner = EXPANSION * given
        self.conv_pw = _conv(given, inner, 1)
        self.bn1 = Norm(self.conv_pw)
        self.conv_dw = _conv(inner, inner, group.kernel, stride=stride, dilation=dilation, depthwise=True)
        self.bn2 = Norm(self.conv_dw)
        self.conv_pwl = _conv(inner, group.width, 1)
        self.bn3 = Norm(self.conv_pwl, activation=False)
        self.is_residual = stride == 1 and given == group.width

    def forward(self, x: Tensor) -> Tensor:
        """Return the map (B, C, h, w)."""
        inner = self.bn1(self.conv_pw(x))
        inner = self.bn2(self.conv_dw(inner))
        out = self.bn3(self.conv_pwl(inner))
        return out + x if self.is_residual else out


class Network(nn.Module):
    """Stem and groups of blocks up to an encoder's last stage, with random values."""

    def __init__(self, size: str, last_stage: int, output_stride: int):
        super().__init__()
        width_factor, depth_factor = WIDTH_AND_DEPTH[size]
        self.conv_stem = _conv(3, STEM, 3, stride=2)
        self.bn1 = Norm(self.conv_stem)
        self.blocks = nn.Sequential()
        channels, stride, dilation = STEM, 2, 1
        groups = [group for group, stage in zip(GROUPS, STAGES) if stage <= last_stage]
        for number, group in enumerate(groups):
            scaled = replace(group, width=_rounded(width_factor * group.width))
            blocks = group.blocks
            if number not in (0, len(GROUPS) - 1):
                blocks = ceil(depth_factor * blocks)
            is_strided = stride * group.stride <= output_stride
            step = group.stride if is_strided else 1
            if number == 0:
                first: nn.Module = First(channels, scaled)
            else:
                first = Block(channels, scaled, step, dilation)
            if not is_strided:  # from the second block on
                dilation *= group.stride
            others = [Block(scaled.width, scaled, 1, dilation) for _ in range(blocks - 1)]
            self.blocks.append(nn.Sequential(first, *others))
            channels, stride = scaled.width, stride * step


def _rounded(width: float) -> int:
    """Return the multiple of 8 that is nearest to a width, and at least 0.9 of it."""
    near = int(width + 4) // 8 * 8
    return near if near >= 0.9 * width else near + 8


class LiteEncoder(TimmEncoderBase):
    """An EfficientNet-Lite, ``net``, and how its input is normalised."""

    licence = "apache-2.0"
    pretraining = IMAGENET

    def __init__(self, backbone: str, stem: str, last_stage: int, variant: EncoderVariant):
        super().__init__()
        self.variant = variant
        self.last_stage = last_stage
        size = bare_name(backbone).partition(".")[0].rpartition("_")[2]
        self.net = Network(size, last_stage, STAGE_STRIDES[last_stage] // variant.dilation.get(last_stage, 1))
        for name in self.constants:
            self.register_buffer(name, torch.full((3, 1, 1), 0.5))
        self.every_block = {stage: {} for stage in STAGE_STRIDES}
        for group, blocks in enumerate(self.net.blocks[1:], 1):
            widths = {(group, number): block.bn3.num_features for number, block in enumerate(blocks)}
            self.every_block[STAGES[group]] |= widths
        self.channels = {i: [*self.every_block[i].values()][-1] for i in variant.returned_stages(last_stage)}
        self.intermediate_counts = {i: len(self.blocks_of(i)) for i in self.channels if i in variant.intermediate}
        self.to(memory_format=MEMORY_FORMAT)

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """See :class:`Encoder`."""
        wanted = (
            {place for stage in self.intermediate_counts for place in self.blocks_of(stage)} if intermediate else ()
        )
        x = self.net.bn1(self.net.conv_stem(x))
        for group, blocks in enumerate(self.net.blocks):
            stage = STAGES[group]
            for number, block in enumerate(blocks):
                x = block(x)
                if (group, number) in wanted:
                    yield stage, x
            if stage in self.channels:
                out[stage] = x

    def run_stage(self, i: int, x_bchw: Tensor) -> Tensor:
        """See :class:`Encoder`."""
        return self.stages()[i](x_bchw)

    def stages(self) -> list[nn.Module]:
        """Return the parts of stages 0..last_stage, each a sequence of layers and groups of blocks."""
        parts = [nn.Sequential(self.net.conv_stem, self.net.bn1)]
        parts += [nn.Sequential() for _ in range(self.last_stage)]
        for stage, group in zip(STAGES, self.net.blocks):
            parts[stage].append(group)
        return list(parts)

    def stage_of(self, name: str) -> int:
        """See :class:`Encoder`."""
        group = re.match(rf"{NET}blocks\.([0-6])\.", name)
        return STAGES[int(group[1])] if group else 0

    def of_timm(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """See :class:`TimmEncoderBase`."""
        built = {name for name in state if self.stage_of(NET + name) <= self.last_stage}
        return {name: x for name, x in state.items() if name in built and not name.startswith(CLASSIFIER)}


for _name in LITES:
    register_encoder(_name, title_of(_name), strides=STRIDES, sides_by_stride=True)(LiteEncoder)
