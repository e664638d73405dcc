"""The ``encoder`` section of the methods' settings: which encoder, the weights that it starts from, and what learns."""

from dataclasses import dataclass, field, replace
from typing import Literal

from model.decides import Decides
from model.encoders.encoder import Encoder
from model.encoders.registry import ENCODERS, build, spec_of
from model.encoders.variant import DILATIONS, LAST_STAGE, STAGE_STRIDES, USUAL, EncoderVariant


@dataclass
class Learn:
    """The parts of an encoder that learn in the meta stage; batch norms keep their statistics and weights."""

    parts: list[str]  # stages by number (``4``), or modules by name (``net.blocks.11``)
    lr_factor: float = field(default=0.1, metadata={"low": 0})  # beside the method's 1
    depthwise: bool = True  # whether depthwise kernels among them learn, whose gradient takes a CPU long


@dataclass
class EncoderSettings:
    """Which encoder, and the weights that it starts from; ``Method.wants`` decides which encoders fit."""

    # resnet10 .. resnet101, vgg16, swin_b, or timm/<name>
    backbone: str = field(default="resnet50", metadata={"decides": Decides.IDENTITY, "kind": ENCODERS})
    # deep: three 3x3 convolutions (published checkpoints); plain: torchvision's 7x7; of ResNets alone
    stem: Literal["deep", "plain"] = field(default="deep", metadata={"decides": Decides.IDENTITY})
    # A file (torchvision layout, deep-stem layout, a base-stage checkpoint; float16 or float32), `torchvision`
    # (IMAGENET1K_V1), `torchvision_v2`, `timm` or `package` to find them by name, null for random values
    weights: str | None = field(default=None, metadata={"decides": Decides.SCORES})
    # The data that a file's weights were trained on: results state it
    pretraining: str | None = field(default=None, metadata={"decides": Decides.SCORES})
    # Accept a file without some tensors; they start from random values and are counted in the log
    partial: bool = field(default=False, metadata={"decides": Decides.SCORES})
    # Null: the method's own
    output_stride: Literal[8, 16, 32] | None = field(default=None, metadata={"decides": Decides.IDENTITY})
    learn: Learn | None = None  # such as {parts: [4], lr_factor: 0.1}; null: nothing, or what the method says

    @property
    def stride(self) -> int | None:
        """The output stride that is set, or the only one of a network of timm; None: the method's own."""
        strides = spec_of(self.backbone).strides
        if self.output_stride is None and len(strides) == 1:
            return strides[0]
        return self.output_stride

    def size_rule(self, default_stride: int) -> tuple[int, int] | None:
        """Return (step, rest) of image sides, S % step == rest; None: the method's rule, of that default stride."""
        spec = spec_of(self.backbone)
        if spec.patch is not None:
            return spec.patch, 1
        undilated = STAGE_STRIDES[4]
        goes_by_stride = spec.sides_by_stride and not (default_stride == undilated and spec.any_size)
        if self.output_stride is None and not goes_by_stride:
            return None
        stride = self.stride or (default_stride if spec.strides else spec.grids[-1])
        return stride, int(stride < undilated)

    def grid(self, size: int, stage: int = 3, variant: EncoderVariant = USUAL) -> int:
        """Return the side of a stage's grid, 2..4, for an image of ``size`` pixels."""
        return spec_of(self.backbone, variant).cells(size, stage, self.stride or variant.output_stride)


def build_encoder(settings: EncoderSettings, last_stage: int = LAST_STAGE, variant: EncoderVariant = USUAL) -> Encoder:
    """Return the encoder of ``settings`` with random weights; a stride there replaces the variant's dilation.

    A training, or a test without a checkpoint, fills it with the weights that the settings name.
    """
    if settings.stride is not None:
        dilations = DILATIONS[settings.stride].items()
        variant = replace(variant, dilation={i: d for i, d in dilations if i <= last_stage})
    encoder = build(settings.backbone, settings.stem, last_stage, variant)
    encoder.start = settings
    return encoder
