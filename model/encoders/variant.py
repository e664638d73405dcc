"""Constants of the encoders, and the changes that a method makes to one.

Stages are numbered 0 (stem) to 4 as in the published checkpoints.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

DILATIONS: dict[int, dict[int, int]] = {8: {3: 2, 4: 4}, 16: {4: 2}, 32: {}}  # output stride -> stage -> dilation
STAGE_STRIDES = {1: 4, 2: 8, 3: 16, 4: 32}  # of a network that halves its grid stage by stage, without dilation
LAST_STAGE = 4
ENCODER_STRIDE = 8  # of ResNet's stages 2..4; an image side of 8k + 1 pixels gives a grid of k + 1
INTERMEDIATE_STAGES = (2, 3, 4)
STRIDES = (8, 16, 32)  # output strides that a network with a pyramid may be asked for
DEEP, PLAIN = "deep", "plain"  # stems of a ResNet: three 3x3 convolutions, or torchvision's one of 7x7
PREFIX = "timm/"  # of names of networks of timm
IMAGENET = "ImageNet-1k"  # the data that weights were trained on, in words
NOTHING = "none (random values)"


def bare_name(backbone: str) -> str:
    """Return timm's name of ``timm/<name>``."""
    return backbone.removeprefix(PREFIX)


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

    @property
    def output_stride(self) -> int:
        """The stride of the last stages of a network that can be dilated."""
        dilated = [STAGE_STRIDES[stage] // dilation for stage, dilation in self.dilation.items()]
        return min(dilated, default=STAGE_STRIDES[LAST_STAGE])

    def returned_stages(self, last_stage: int) -> range:
        """Return the stages whose outputs are returned."""
        return range(min(INTERMEDIATE_STAGES[0], *self.intermediate), last_stage + 1)

    def count(self, stage: int, blocks: int) -> int:
        """Return the number of intermediate features of a stage with so many blocks, which are its last ones."""
        wanted = self.intermediate.get(stage, 0)
        return blocks if wanted is None else min(wanted, blocks)


USUAL = EncoderVariant()
