"""The ``encoder`` section of the models' settings: which encoder, the weights that it starts from, and what learns."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal

from model.encoders.encoder import DILATIONS, LAST_STAGE, Encoder, EncoderVariant
from model.encoders.registry import DEFAULT, build, problem_of, spec_of
from model.encoders.resnet import PLAIN, ResNetEncoder
from model.encoders.timm_facts import STAGE_STRIDES
from model.encoders.vgg import VGGEncoder


def encoder_of(*families: type[Encoder], one_grid: bool = False, pyramid: bool = False) -> Any:
    """Return the dataclass field of a setting that names an encoder of one of these families, or of timm.

    Args:
        one_grid: whether the method needs stages 3 and 4 on the same grid.
        pyramid: whether it needs stages 2, 3 and 4 at strides 8, 16 and 32.
    """
    problem = partial(problem_of, families=families, one_grid=one_grid, pyramid=pyramid)
    return field(default=DEFAULT, metadata={"problem": problem})


@dataclass
class Learn:
    """The parts of an encoder that learn in the meta stage; batch norms keep their statistics and weights."""

    parts: list[str]  # stages by number (``4``), or modules by name (``net.blocks.11``)
    lr_factor: float = field(default=0.1, metadata={"low": 0})  # beside the method's 1
    depthwise: bool = True  # whether depthwise kernels among them learn, whose gradient takes a CPU long


@dataclass
class BareEncoderSettings:
    """The settings of every encoder; ``config/model/symnet.yaml`` explains them."""

    default_stride: ClassVar[int] = 8  # output stride where none is set
    stem: ClassVar[str] = PLAIN
    backbone: str = encoder_of(ResNetEncoder)
    weights: str | None = None
    pretraining: str | None = None
    partial: bool = False
    output_stride: Literal[8, 16, 32] | None = None
    learn: Learn | None = None

    @property
    def stride(self) -> int:
        """The output stride in pixels."""
        return self.output_stride or self.default_stride

    def size_rule(self) -> tuple[int, int] | None:
        """Return (step, rest) of the image sides that the encoder takes, S % step == rest; None: the method's rule."""
        own = None if self.output_stride is None else (self.output_stride, int(self.output_stride < max(DILATIONS)))
        return spec_of(self.backbone).size_rule(self.stride) or own

    def grid(self, size: int, stage: int = 3) -> int:
        """Return the side of a stage's grid, 2..4, for an image of ``size`` pixels."""
        return spec_of(self.backbone).grid(size, min(self.stride, STAGE_STRIDES[stage]))

    def problem(self) -> tuple[str, str] | None:
        """Return (key, what is wrong and how to fix it) if the encoder cannot have the output stride."""
        strides = sorted(spec_of(self.backbone).strides)
        if self.output_stride is None or self.output_stride in strides:
            return None
        can = f"it can have {', '.join(map(str, strides))}" if len(strides) > 1 else "its grid is fixed: leave it null"
        return "output_stride", f"= {self.output_stride} does not go with {self.backbone}; {can}"


@dataclass
class EncoderSettings(BareEncoderSettings):
    """The section of a model that takes convolutional encoders."""

    backbone: str = encoder_of(ResNetEncoder, VGGEncoder)
    stem: Literal["deep", "plain"] = "deep"  # type: ignore[misc]  # a setting here, a constant of the base class


@dataclass
class OneGridSettings(EncoderSettings):
    """The section of a model that needs stages 3 and 4 on the same grid."""

    backbone: str = encoder_of(ResNetEncoder, VGGEncoder, one_grid=True)


@dataclass
class ResNetSettings(EncoderSettings):
    """The section of a model that takes residual networks alone, and networks of timm."""

    backbone: str = encoder_of(ResNetEncoder)


def build_encoder(
    settings: BareEncoderSettings, last_stage: int = LAST_STAGE, variant: EncoderVariant | None = None
) -> Encoder:
    """Return the encoder that ``settings`` name, with random weights, without the stages after ``last_stage``.

    Args:
        variant: the method's; ``settings.output_stride`` replaces its dilation.
    """
    if settings.output_stride is not None:
        dilation = {i: d for i, d in DILATIONS[settings.output_stride].items() if i <= last_stage}
        variant = replace(variant or EncoderVariant(), dilation=dilation)
    return build(settings.backbone, settings.stem, last_stage, variant)
