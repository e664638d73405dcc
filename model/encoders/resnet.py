"""ResNet as an encoder: torchvision's network at output stride 8, in the variants that methods use."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import (
    INTERMEDIATE_STAGES,
    LAST_STAGE,
    MEMORY_FORMAT,
    Encoder,
    EncoderVariant,
    Intermediate,
)
from model.encoders.features import Features
from model.encoders.folding import conv_norm

if TYPE_CHECKING:
    from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

DEEP, PLAIN = "deep", "plain"  # stems: three 3x3 convolutions, or torchvision's one of 7x7
PLAIN_KERNEL = 7
# Files with a deep stem call it conv1..3 / bn1..3, or conv1.{0,1,3,4,6} / bn1; here it is one Sequential.
DEEP_NAMES = {"conv1": "layer0.0", "bn1": "layer0.1", "conv2": "layer0.3", "bn2": "layer0.4"}
DEEP_NAMES |= {"conv3": "layer0.6", "bn3": "layer0.7"}
NESTED_DEEP_NAMES = {f"conv1.{i}": f"layer0.{i}" for i in (0, 1, 3, 4, 6)} | {"bn1": "layer0.7"}
PLAIN_NAMES = {"conv1": "layer0.0", "bn1": "layer0.1"}
CLASSIFIER = ("fc.", "classifier.")  # prefixes of tensors that the encoder does not use
SMALL, NARROW = "resnet10", "resnet10_narrow"  # one basic block a stage; torchvision has neither

Block: TypeAlias = "BasicBlock | Bottleneck"


class ResNetEncoder(Encoder):
    """ResNet; by default at output stride 8, with stages 3 and 4 dilated by 2 and 4.

    An intermediate feature is the map before the last ReLU of a residual block.
    """

    names_in_files = r"(layer[0-4]|conv[1-3]|bn[1-3]|fc)\."

    def __init__(
        self, backbone: str, deep_stem: bool, last_stage: int = LAST_STAGE, variant: EncoderVariant | None = None
    ):
        super().__init__()
        self.variant = variant = variant or EncoderVariant()
        net = _residual_network(backbone)
        stem_width = net.conv1.out_channels
        if deep_stem:
            self.layer0 = _deep_stem(stem_width, net.maxpool)
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
        self.returned_stages = range(min(INTERMEDIATE_STAGES[0], *variant.intermediate), last_stage + 1)
        self.channels = {i: _out_channels(self.stage(i)[-1]) for i in self.returned_stages}
        self.intermediate_counts = {
            i: len(self._intermediate_blocks(i)) for i in self.returned_stages if i in variant.intermediate
        }
        self.to(memory_format=MEMORY_FORMAT)

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """See :class:`Encoder`."""
        out = Features({}, {i: [] for i in self.returned_stages})
        give = intermediate if callable(intermediate) else out.add_intermediate
        x = self.run_stage(0, image_b3hw)
        for i in range(1, self.last_stage + 1):
            blocks = self.stage(i)
            kept = self._intermediate_blocks(i) if intermediate else range(0)
            for position, block in enumerate(blocks):
                feature = x = residual(block, x)
                if i < self.last_stage or position + 1 < len(blocks) or self.variant.final_relu:
                    x = F.relu(feature, inplace=position not in kept)
                if position in kept:
                    give(i, feature)
            if i in self.returned_stages:
                out.stage[i] = x
        return out

    def run_stage(self, i: int, x_bchw: Tensor) -> Tensor:
        """See :class:`Encoder`; the last block ends with its ReLU."""
        if i == 0:
            return super().run_stage(i, x_bchw)
        for block in self.stage(i):
            x_bchw = F.relu(residual(block, x_bchw), inplace=True)
        return x_bchw

    def _intermediate_blocks(self, stage: int) -> range:
        """Return the positions of the blocks of a stage whose intermediate features are returned."""
        blocks = len(self.stage(stage))
        wanted = self.variant.intermediate.get(stage, 0)
        return range(0 if wanted is None else max(blocks - wanted, 0), blocks)

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the stem of torchvision's files and of the files with a deep stem; the classifier is left out."""
        stem = PLAIN_NAMES
        if "layer0.0.weight" not in state:
            if "conv1.0.weight" in state:
                stem = NESTED_DEEP_NAMES
            elif "conv3.weight" in state:
                stem = DEEP_NAMES
        out = {}
        for name, tensor in state.items():
            if name.startswith(CLASSIFIER):
                continue
            owner, _, leaf = name.rpartition(".")
            out[f"{stem[owner]}.{leaf}" if owner in stem else name] = tensor
        return out

    @staticmethod
    def describe_weights(state: dict[str, Tensor]) -> str | None:
        """Name stem, kind of blocks and their number in stage 3; the first convolution has no bias."""
        names = ("layer0.0.weight", "conv1.weight", "conv1.0.weight")
        first = next((state[name] for name in names if name in state), None)
        if first is None or "layer0.0.bias" in state:
            return None
        stage3 = {k.split(".")[1] for k in state if re.match(r"layer3\.\d+\.conv1\.weight", k)}
        stem = "plain 7x7" if first.shape[-1] == PLAIN_KERNEL else "deep 3x3"
        block = "bottlenecks" if any(".conv3." in k for k in state if k.startswith("layer1")) else "basic blocks"
        return f"a ResNet with a {stem} stem and {len(stage3)} {block} in stage 3"


def resnet_grid(size: int, stride: int) -> int:
    """Return the side of a grid of that stride for an image of ``size`` pixels."""
    return (size - 1) // stride + 1


def residual(block: Block, x: Tensor) -> Tensor:
    """Return the output of one of torchvision's residual blocks before its last ReLU."""
    shortcut = x
    if block.downsample is not None:
        conv, norm = block.downsample
        shortcut = conv_norm(conv, norm, x)
    x = F.relu(conv_norm(block.conv1, block.bn1, x), inplace=True)
    x = conv_norm(block.conv2, block.bn2, x)
    if hasattr(block, "conv3"):
        x = conv_norm(block.conv3, block.bn3, F.relu(x, inplace=True))
    return x.add_(shortcut)


def _residual_network(backbone: str) -> ResNet:
    """Return torchvision's network with random weights."""
    from torchvision.models import resnet  # seconds, which a process that builds no network saves

    from model.encoders.small_resnets import narrow_resnet10, resnet10

    if backbone in (SMALL, NARROW):
        return resnet10() if backbone == SMALL else narrow_resnet10()
    return getattr(resnet, backbone)(weights=None)


def _deep_stem(width: int, pool: nn.Module) -> nn.Sequential:
    """Return three 3x3 convolutions, each with norm and ReLU, and the pool."""
    parts: list[nn.Module] = []
    convolutions: Iterable[nn.Conv2d] = [
        nn.Conv2d(3, width, 3, stride=2, padding=1, bias=False),
        nn.Conv2d(width, width, 3, padding=1, bias=False),
        nn.Conv2d(width, 2 * width, 3, padding=1, bias=False),
    ]
    for conv in convolutions:
        parts += [conv, nn.BatchNorm2d(conv.out_channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*parts, pool)


def _out_channels(block: Block) -> int:
    return (block.bn3 if hasattr(block, "bn3") else block.bn2).num_features


def _widen_input(block: Block, channels: int) -> None:
    """Let the first block of stage 1 take the deep stem's channels."""
    stride, out = block.conv1.stride, block.conv1.out_channels
    kernel, padding = block.conv1.kernel_size, block.conv1.padding
    block.conv1 = nn.Conv2d(channels, out, kernel, stride=stride, padding=padding, bias=False)
    width = _out_channels(block)
    block.downsample = nn.Sequential(nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width))


def _dilate(stage: nn.Sequential, dilation: int, of_first_block: int) -> None:
    """Replace a stage's stride by dilation in every 3x3 convolution; the first block has a dilation of its own."""
    for position, block in enumerate(stage):
        for module in block.modules():
            if isinstance(module, nn.Conv2d):
                module.stride = (1, 1)
                if module.kernel_size == (3, 3):
                    module.dilation = module.padding = (dilation if position else of_first_block,) * 2
