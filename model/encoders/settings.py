"""The ``encoder`` section of the models' settings: which encoder, and the weights that it starts from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from model.encoders.encoder import LAST_STAGE, Encoder, EncoderVariant
from model.encoders.registry import DEFAULT, ENCODERS, names_of
from model.encoders.resnet import ResNetEncoder
from model.encoders.vgg import VGGEncoder


def encoder_of(*families: type[Encoder]) -> str:
    """Return the dataclass field of a setting that names an encoder of one of these families."""
    return field(default=DEFAULT, metadata={"choices": names_of(*families)})


@dataclass
class EncoderSettings:
    """The section of a model that takes convolutional encoders."""

    backbone: str = encoder_of(ResNetEncoder, VGGEncoder)
    stem: Literal["deep", "plain"] = "deep"
    weights: str | None = None
    partial: bool = False


@dataclass
class ResNetSettings(EncoderSettings):
    """The section of a model that takes residual networks alone."""

    backbone: str = encoder_of(ResNetEncoder)


def build_encoder(
    settings: EncoderSettings, last_stage: int = LAST_STAGE, variant: EncoderVariant | None = None
) -> Encoder:
    """Return the encoder that ``settings`` name, with random weights, without the stages after ``last_stage``."""
    return ENCODERS[settings.backbone].build(settings.stem, last_stage, variant)
