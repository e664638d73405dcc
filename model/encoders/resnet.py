"""ResNet as an encoder, at output stride 8, in the variants that methods use."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import MEMORY_FORMAT, Encoder, conv_norm
from model.encoders.registry import RESNETS, register_encoder
from model.encoders.residual import LAYERS, SMALL, deep_stem, dilate, out_channels
from model.encoders.variant import DEEP, PLAIN, STRIDES, EncoderVariant

# Files call a deep stem conv1..3 / bn1..3, of which a plain one has the first, or conv1.{0,1,3,4,6} / bn1.
STEM_NAMES = {f"{kind}{i + 1}": f"layer0.{3 * i + j}" for i in range(3) for j, kind in enumerate(("conv", "bn"))}
NESTED_STEM_NAMES = {f"conv1.{i}": f"layer0.{i}" for i in (0, 1, 3, 4, 6)} | {"bn1": "layer0.7"}
CLASSIFIER = ("fc.", "classifier.")  # prefixes of tensors that the encoder does not use


class ResNetEncoder(Encoder):
    """ResNet; an intermediate feature is the map before the last ReLU of a residual block."""

    local_stages = True

    def __init__(self, backbone: str, stem: str, last_stage: int, variant: EncoderVariant):
        super().__init__()
        self.variant = variant
        net: Any = LAYERS[backbone]()
        self.layer0 = deep_stem(net) if stem == DEEP else nn.Sequential(net.conv1, net.bn1, net.relu, net.maxpool)
        self.last_stage = last_stage
        for i in range(1, last_stage + 1):
            stage = getattr(net, f"layer{i}")
            if i in variant.dilation:
                dilate(stage, i, variant)
            setattr(self, f"layer{i}", stage)
        self.channels = {i: out_channels(self.stage(i)[-1]) for i in variant.returned_stages(last_stage)}
        inside = [i for i in self.channels if i in variant.intermediate]
        self.intermediate_counts = {i: variant.count(i, len(self.stage(i))) for i in inside}
        self.to(memory_format=MEMORY_FORMAT)

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """See :class:`Encoder`."""
        x = self.run_stage(0, x)
        for i in range(1, self.last_stage + 1):
            blocks = self.stage(i)
            first_given = len(blocks) - self.intermediate_counts.get(i, 0)
            for position, block in enumerate(blocks):
                is_given = intermediate and position >= first_given
                is_last = i == self.last_stage and position + 1 == len(blocks)
                feature = x = residual(block, x)
                if not is_last or self.variant.final_relu:
                    x = F.relu(feature, inplace=not is_given)
                if is_given:
                    yield i, feature
                del feature
            if i in self.channels:
                out[i] = x

    def run_stage(self, i: int, x_bchw: Tensor) -> Tensor:
        """See :class:`Encoder`; the last block ends with its ReLU."""
        if i == 0:
            return super().run_stage(i, x_bchw)
        for block in self.stage(i):
            x_bchw = F.relu(residual(block, x_bchw), inplace=True)
        return x_bchw

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the stem of torchvision's files and of the files with a deep stem; the classifier is left out."""
        stem = NESTED_STEM_NAMES if "conv1.0.weight" in state else STEM_NAMES
        out = {}
        for name, tensor in state.items():
            owner, _, leaf = name.rpartition(".")
            if not name.startswith(CLASSIFIER):
                out[f"{stem[owner]}.{leaf}" if owner in stem else name] = tensor
        return out


def residual(block: Any, x: Tensor) -> Tensor:
    """Return the output of a residual block before its last ReLU."""
    shortcut = x
    if block.downsample is not None:
        conv, norm = block.downsample
        shortcut = conv_norm(conv, norm, x)
    x = F.relu(conv_norm(block.conv1, block.bn1, x), inplace=True)
    x = conv_norm(block.conv2, block.bn2, x)
    if hasattr(block, "conv3"):
        x = conv_norm(block.conv3, block.bn3, F.relu(x, inplace=True))
    return x.add_(shortcut)


for _name in RESNETS:
    _title = _name.replace("resnet", "ResNet-")
    _torchvision = None if _name == SMALL else _name
    register_encoder(_name, _title, stems=(PLAIN, DEEP), strides=STRIDES, torchvision=_torchvision)(ResNetEncoder)
