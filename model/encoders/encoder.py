"""The interface of the image encoders: the maps that each offers, and its parts that a method may change.

Stages are numbered 0 (stem) to 4 as in the published checkpoints.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.folding import conv_norm
from model.episode import Batch
from model.mismatch import ModelMismatch
from model.tensors.mask import Mask, computed_together
from model.tensors.ops import IMAGENET_MEAN, IMAGENET_STD, normalise, with_gradient_in_layout
from model.tensors.windows import spans_on, window_around

DILATIONS: dict[int, dict[int, int]] = {8: {3: 2, 4: 4}, 16: {4: 2}, 32: {}}  # output stride -> stage -> dilation
LAST_STAGE = 4
ENCODER_STRIDE = 8  # of ResNet's stages 2..4; an image side of 8k + 1 pixels gives a grid of k + 1
INTERMEDIATE_STAGES = (2, 3, 4)
MEMORY_FORMAT = torch.channels_last  # of weights and maps: convolutions are faster than in the default format
DEEP, PLAIN = "deep", "plain"  # stems of a ResNet: three 3x3 convolutions, or torchvision's one of 7x7
STAGE = r"(?:layer|merge)([0-4])\."  # how tensor names of the encoders written here begin


@dataclass(frozen=True)
class EncoderVariant:
    """Changes that a method makes to an encoder; the defaults are Sym-Net's."""

    # Stage -> dilation of its 3x3 convolutions, which replaces its stride (ResNet).
    dilation: Mapping[int, int] = field(default_factory=lambda: dict(DILATIONS[ENCODER_STRIDE]))
    first_block_dilated: bool = True  # False: as the stage before it, as in torchvision (ResNet)
    final_relu: bool = True  # whether the last block of the last stage ends with its ReLU (ResNet)
    # Stage -> number of its last intermediate features to return, None for all (ResNet, Swin, timm).
    intermediate: Mapping[int, int | None] = field(default_factory=lambda: dict.fromkeys(INTERMEDIATE_STAGES))
    any_width: bool = False  # whether blocks of other widths than their stage's output give features too (timm)
    batch_norm: bool = True  # False: without it, pools round down and stage 4 ends with one (VGG, as HSNet has it)

    def returned_stages(self, last_stage: int) -> range:
        """Return the stages whose outputs are returned."""
        return range(min(INTERMEDIATE_STAGES[0], *self.intermediate), last_stage + 1)

    def count(self, stage: int, blocks: int) -> int:
        """Return the number of intermediate features of a stage with so many blocks, which are its last ones."""
        wanted = self.intermediate.get(stage, 0)
        return blocks if wanted is None else min(wanted, blocks)


USUAL = EncoderVariant()


@dataclass
class Features(Batch):
    """Features of B images: the outputs of the encoder's stages, and its intermediate features where asked for.

    An intermediate feature is a map before the last ReLU of a residual block, a raw convolution output of VGG, or the
    output of a Swin transformer's block.
    """

    stage: dict[int, Tensor]  # stage -> (B, C, H, W)
    intermediate: dict[int, list[Tensor]]  # stage -> maps (B, C, H, W), in the order of the blocks


class Encoder(nn.Module):
    """Base class of the encoders: built from a name of the registry, stem, last stage and variant."""

    channels: dict[int, int]  # stage -> channels of its output, of the stages that are returned
    intermediate_counts: dict[int, int]  # stage -> number of intermediate features
    last_stage: int  # the deepest one that exists
    title = ""  # in messages
    torchvision: str | None = None  # torchvision's name of its ImageNet weights
    licence: str | None = None  # of the weights, where it is known
    pretraining: str | None = None  # the data that the weights were trained on, where it is known
    constants: tuple[str, ...] = ()  # tensors of its own that belong to no stage, and that files may lack
    mean: Tensor  # of the pixels 0..1 of each channel, (3, 1, 1), and their standard deviation
    std: Tensor

    def __init__(self, *_: Any) -> None:
        super().__init__()
        for name, values in (("mean", IMAGENET_MEAN), ("std", IMAGENET_STD)):
            self.register_buffer(name, torch.tensor(values).view(3, 1, 1), persistent=False)

    def stage(self, i: int) -> nn.Sequential:
        """Return the module of stage ``i``."""
        return getattr(self, f"layer{i}")

    def stages(self) -> list[nn.Module]:
        """Return the modules of stages 0..last_stage, in order."""
        return [self.stage(i) for i in range(self.last_stage + 1)]

    def widths(self, stage: int) -> list[int]:
        """Return the channels of each intermediate feature of a stage."""
        return [self.channels[stage]] * self.intermediate_counts[stage]

    def forward(self, image_b3hw: Tensor, intermediate: bool = False) -> Features:
        """Encode normalised images; ``intermediate`` asks for the intermediate features of stages 2..4 as well."""
        out = Features({}, {i: [] for i in self.channels})
        for stage, feature in self.steps(out.stage, image_b3hw, intermediate):
            out.intermediate[stage].append(feature)
        out.stage = {i: with_gradient_in_layout(x) for i, x in out.stage.items()}
        return out

    def steps(self, out: dict[int, Tensor], x: Tensor, intermediate: bool) -> Iterator[tuple[int, Tensor]]:
        """Encode normalised images step by step, and add the outputs of the stages to ``out``.

        Yield the intermediate features with their stage, if they are asked for, each as soon as it exists.
        """
        raise NotImplementedError

    def forward_masked(self, image_b3hw: Tensor, mask: Mask, stage: int) -> Features:
        """Return the outputs of the stages up to ``stage`` + 1, the last one of the masked object alone.

        The output of ``stage`` is multiplied by the mask before the next stage, which a CPU runs on the window that
        decides its output on the object: the object, with the reach of the stage's kernels around it; it is 0
        elsewhere. The encoder is in evaluation mode; the returned map of ``stage`` is the unmasked one.
        """
        out, x = Features({}, {}), image_b3hw
        for i in range(stage + 1):
            x = self.run_stage(i, x)
            if i in self.channels:
                out.stage[i] = x
        size = x.shape[-2:]
        masked = x * mask.on(size)
        if computed_together(x):
            out.stage[stage + 1] = self.run_stage(stage + 1, masked)
            return out
        convolutions = (module for module in self.stage(stage + 1).modules() if isinstance(module, nn.Conv2d))
        reach = sum(int(conv.dilation[0]) * (conv.kernel_size[0] // 2) for conv in convolutions)
        [spans] = spans_on(mask, [size])
        window = window_around(spans, size, reach, reach)
        high = self.run_stage(stage + 1, window.crop(masked))
        out.stage[stage + 1] = window.place(high, high.new_zeros(high.shape[1]), size)
        return out

    def run_stage(self, i: int, x_bchw: Tensor) -> Tensor:
        """Return the output of one stage; norms in evaluation mode are a part of the convolutions before them."""
        norm: nn.Module | None = None
        for layer, following in pairwise([*self.stage(i), None]):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d):
                norm, x_bchw = following, conv_norm(layer, following, x_bchw)
            elif layer is not norm:
                x_bchw = layer(x_bchw)
        return x_bchw

    def normalise(self, image: Tensor) -> Tensor:
        """Return the encoder's float32 input from RGB pixels 0..255 (..., 3, H, W), uint8 or float32."""
        return normalise(image, self.mean, self.std)

    def normalisation(self) -> list[list[float]]:
        """Return mean and standard deviation of each channel that ``normalise`` uses, of pixels 0..1."""
        mean, std = (x.flatten().tolist() for x in (self.mean, self.std))
        return [[round(value, 7) for value in mean], [round(value, 7) for value in std]]

    def frozen_beside(self, parts: Sequence[str], depthwise: bool = True) -> Iterator[nn.Module]:
        """Yield modules that hold all but some parts; also their batch norms and, unless ``depthwise``, such kernels.

        Parts are stages by number, such as ``4``, or modules by name, such as ``net.blocks.11``; ModelMismatch for an
        unknown one.
        """
        learning: set[int] = set()
        for part in parts:
            learning |= {id(p) for p in self._part(part).parameters()}
        for module in self.modules():
            learns = any(id(p) in learning for p in module.parameters())
            if isinstance(module, _BatchNorm) or not learns or (is_depthwise(module) and not depthwise):
                yield module
                continue
            frozen = nn.Module()  # parameters of a module that also holds a learning part
            for name, parameter in module.named_parameters(recurse=False):
                if id(parameter) not in learning:
                    frozen.register_parameter(name, parameter)
            if next(frozen.parameters(), None) is not None:
                yield frozen

    def _part(self, name: str) -> nn.Module:
        """Return a part of ``frozen_beside`` by its name."""
        stages = {str(i): stage for i, stage in enumerate(self.stages())}
        parts = stages | {module_name: module for module_name, module in self.named_modules() if module_name}
        if name not in parts:
            known = ", ".join([*stages, *(child for child, _ in self.named_children())])
            raise ModelMismatch(f"model.encoder.learn.parts: the encoder has no part '{name}'; it has {known}")
        return parts[name]

    def stage_of(self, name: str) -> int:
        """Return the stage that a tensor belongs to, by its name."""
        match = re.match(STAGE, name)
        assert match is not None, name
        return int(match[1])

    def foreign(self, names: Iterable[str]) -> list[str]:
        """Return those of tensors that this encoder does not have whose names are of one of its stages."""
        return [name for name in names if re.match(STAGE, name) and self.stage_of(name) <= self.last_stage]

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a weight file's tensors under this class's names, without the classifier; unknown names stay."""
        raise NotImplementedError


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a module is a convolution that keeps channels apart."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
