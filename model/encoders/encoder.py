"""The interface of the image encoders: the maps that each offers, and its parts that a method may change.

Stages are numbered 0 (stem) to 4 as in the published checkpoints.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from model.common.ops import IMAGENET_MEAN, IMAGENET_STD, normalise, resize
from model.common.window import window_around
from model.encoders.features import Features
from model.encoders.folding import conv_norm

DILATION = {3: 2, 4: 4}  # stage -> dilation, at output stride 8
LAST_STAGE = 4
ENCODER_STRIDE = 8  # of ResNet's stages 2..4; an image side of 8k + 1 pixels gives a grid of k + 1
INTERMEDIATE_STAGES = (2, 3, 4)
MEMORY_FORMAT = torch.channels_last  # of weights and maps: convolutions are faster than in the default format

GiveFeature = Callable[[int, Tensor], None]  # receives (stage, intermediate feature)
Intermediate = bool | GiveFeature  # whether to return intermediate features, or a function to call
DILATIONS: dict[int, dict[int, int]] = {8: DILATION, 16: {4: 2}, 32: {}}  # output stride -> stage -> dilation
STAGE = r"(?:layer|merge)([0-4])\."  # how tensor names of the encoders written here begin


@dataclass(frozen=True)
class EncoderVariant:
    """Changes that a method makes to an encoder; the defaults are Sym-Net's. An encoder ignores what it does not have.

    Attributes:
        dilation: stage -> dilation of its 3x3 convolutions, which replaces its stride (ResNet).
        first_block_dilated: whether the stage's first block has that dilation too; otherwise it has the dilation of
            the stage before it, as in torchvision (ResNet).
        final_relu: whether the last block of the last stage ends with its ReLU (ResNet).
        intermediate: stage -> number of its last intermediate features to return, None for all (ResNet, Swin, timm).
        any_width: whether blocks with other channels than their stage's output give intermediate features too (timm).
    """

    dilation: Mapping[int, int] = field(default_factory=lambda: dict(DILATION))
    first_block_dilated: bool = True
    final_relu: bool = True
    intermediate: Mapping[int, int | None] = field(default_factory=lambda: dict.fromkeys(INTERMEDIATE_STAGES))
    any_width: bool = False

    def stride(self, stage: int) -> int:
        """Return the stride of a stage's output in pixels: 2^(stage + 1), divided by the dilation."""
        return 2 ** (stage + 1) // self.dilation.get(stage, 1)


class Encoder(nn.Module):
    """Base class of the encoders: ``forward(images, intermediate) -> Features``.

    Attributes:
        channels: stage -> channels of its output.
        intermediate_counts: stage -> number of intermediate features.
        last_stage: the deepest stage that exists.
        names_in_files: regular expression on tensor names in weight files of the bare network.
    """

    channels: dict[int, int]
    intermediate_counts: dict[int, int]
    last_stage: int
    names_in_files: ClassVar[str]
    licence: str | None = None  # of the weights, where it is known
    pretraining: str | None = None  # the data that the weights were trained on, where it is known

    def stage(self, i: int) -> nn.Sequential:
        """Return the module of stage ``i``."""
        return getattr(self, f"layer{i}")

    def stages(self) -> list[nn.Module]:
        """Return the modules of stages 0..last_stage, in order."""
        return [self.stage(i) for i in range(self.last_stage + 1)]

    def widths(self, stage: int) -> list[int]:
        """Return the channels of each intermediate feature of a stage."""
        return [self.channels[stage]] * self.intermediate_counts[stage]

    def forward(self, image_b3hw: Tensor, intermediate: Intermediate = False) -> Features:
        """Encode normalised images; ``intermediate`` asks for the intermediate features of stages 2..4 as well.

        A function is called with (stage, feature) as soon as a feature exists, and none is kept: together they take
        several times the memory of the encoder's own work.
        """
        raise NotImplementedError

    def forward_masked(self, image_b3hw: Tensor, mask_b1hw: Tensor, stage: int) -> Features:
        """Return the outputs of the stages up to ``stage`` + 1, the last one of the masked object alone.

        The output of ``stage`` is multiplied by the mask before the next stage, which runs on the window that decides
        its output on the object: the object, with the reach of the stage's kernels around it; it is 0 elsewhere. The
        encoder is in evaluation mode; the returned map of ``stage`` is the unmasked one.

        Args:
            mask_b1hw: 1 on the object.
        """
        out, x = Features({}, {}), image_b3hw
        for i in range(stage + 1):
            x = self.run_stage(i, x)
            if i in self.channels:
                out.stage[i] = x
        mask, margin = resize(mask_b1hw, x.shape[-2:]), _reach(self.stage(stage + 1))
        window = window_around(mask, margin, margin)
        high = self.run_stage(stage + 1, window.crop(x * mask))
        out.stage[stage + 1] = window.place(high, high.new_zeros(high.shape[1]), x.shape[-2:])
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
        return normalise(image, getattr(self, "mean", None), getattr(self, "std", None))

    def identity(self) -> tuple[tuple[int, int], ...]:
        """Return a key of the weights as they are now; it changes when they are loaded, changed or moved."""
        return tuple((tensor.data_ptr(), tensor._version) for tensor in self.state_dict().values())

    def normalisation(self) -> tuple[list[float], list[float]]:
        """Return mean and standard deviation of each channel that ``normalise`` uses, of pixels 0..1."""
        constants = getattr(self, "mean", None), getattr(self, "std", None)
        own = [None if x is None else x.flatten().tolist() for x in constants]
        return own[0] or list(IMAGENET_MEAN), own[1] or list(IMAGENET_STD)

    def stage_of(self, name: str) -> int:
        """Return the stage that a tensor belongs to, by its name."""
        match = re.match(STAGE, name)
        assert match is not None, name
        return int(match[1])

    def foreign(self, names: Iterable[str]) -> list[str]:
        """Return the tensors of a file that are of a stage of this encoder by their names, but not of this encoder."""
        own = self.state_dict().keys()
        return [k for k in names if k not in own and re.match(STAGE, k) and self.stage_of(k) <= self.last_stage]

    def describe(self) -> str | None:
        """Return the encoder in words, for messages; None: by its tensors (``describe_weights``)."""
        return None

    def own_names(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the state dict of a known weight file under this class's names; unknown names stay as they are."""
        raise NotImplementedError

    @staticmethod
    def describe_weights(state: dict[str, Tensor]) -> str | None:
        """Return family and depth of a state dict, for messages; None if it is of another family."""
        raise NotImplementedError


def _reach(stage: nn.Module) -> int:
    """Return the number of positions over which a stage without stride carries information, at most."""
    convolutions = (module for module in stage.modules() if isinstance(module, nn.Conv2d))
    return sum(int(conv.dilation[0]) * (conv.kernel_size[0] // 2) for conv in convolutions)
