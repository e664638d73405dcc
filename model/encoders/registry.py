"""Encoders by the name that configs give them: how each is built, on which grid it works, where its weights come from.

This is the one place that knows the names; a new encoder is one more entry of ``ENCODERS``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from model.encoders.encoder import Encoder, EncoderVariant
from model.encoders.resnet import DEEP, PLAIN, TINY, ResNetEncoder, resnet_grid
from model.encoders.swin import SWIN_SIDE, SwinEncoder, swin_grid
from model.encoders.vgg import VGGEncoder, vgg_grid

Build = Callable[[str, int, EncoderVariant | None], Encoder]


@dataclass(frozen=True)
class EncoderSpec:
    """One image encoder.

    Attributes:
        title: its name in tables and messages.
        family: the class of the network, which also knows the tensor names in weight files.
        build: (stem, last stage, variant) -> the encoder with random weights.
        grid: image side in pixels -> side of the grid that stage 3 has at the method's default output stride.
        stems: the stems that it can have.
        sides: the only image sides that it takes; None for all.
        torchvision: torchvision's name of its ImageNet weights; None if there are none.
        published_file: name of the file with the deep stem that the published settings start from.
        stage3: blocks of stage 3, and whether they are bottlenecks, by which checkpoints of ResNets are told apart.
    """

    title: str
    family: type[Encoder]
    build: Build
    grid: Callable[[int], int]
    stems: tuple[str, ...] = (PLAIN,)
    sides: tuple[int, ...] | None = None
    torchvision: str | None = None
    published_file: str | None = None
    stage3: tuple[int, bool] | None = None


def _resnet(name: str, title: str, stage3: tuple[int, bool], published_file: str | None = None) -> EncoderSpec:
    def build(stem: str, last_stage: int, variant: EncoderVariant | None) -> Encoder:
        return ResNetEncoder(name, stem == DEEP, last_stage, variant)

    return EncoderSpec(
        title,
        ResNetEncoder,
        build,
        resnet_grid,
        (PLAIN, DEEP),
        torchvision=None if name == TINY else name,
        published_file=published_file,
        stage3=stage3,
    )


def _vgg(stem: str, last_stage: int, variant: EncoderVariant | None) -> Encoder:
    return VGGEncoder(last_stage)


def _swin(stem: str, last_stage: int, variant: EncoderVariant | None) -> Encoder:
    return SwinEncoder((variant or EncoderVariant()).intermediate)


ENCODERS: dict[str, EncoderSpec] = {
    TINY: _resnet(TINY, "ResNet-10", (1, False)),
    "resnet18": _resnet("resnet18", "ResNet-18", (2, False)),
    "resnet34": _resnet("resnet34", "ResNet-34", (6, False)),
    "resnet50": _resnet("resnet50", "ResNet-50", (6, True), "resnet50_v2.pth"),
    "resnet101": _resnet("resnet101", "ResNet-101", (23, True), "resnet101_v2.pth"),
    "vgg16": EncoderSpec("VGG-16", VGGEncoder, _vgg, vgg_grid, torchvision="vgg16_bn"),
    "swin_b": EncoderSpec("Swin-B", SwinEncoder, _swin, swin_grid, sides=(SWIN_SIDE,)),
}
DEFAULT = "resnet50"


def names_of(*families: type[Encoder]) -> tuple[str, ...]:
    """Return the names of all encoders of some families."""
    return tuple(name for name, spec in ENCODERS.items() if spec.family in families)


def downloadable() -> tuple[str, ...]:
    """Return the names of the encoders that torchvision has ImageNet weights of."""
    return tuple(name for name, spec in ENCODERS.items() if spec.torchvision is not None)


def families() -> tuple[type[Encoder], ...]:
    """Return the classes of all encoders."""
    return tuple(dict.fromkeys(spec.family for spec in ENCODERS.values()))


def title_of(backbone: str | None) -> str:
    """Return an encoder's name in tables and messages; "" for a model without one."""
    if backbone is None:
        return ""
    return ENCODERS[backbone].title if backbone in ENCODERS else backbone
