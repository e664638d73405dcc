"""Encoders by the name that configs give them: how each is built, on which grid it works, where its weights come from.

This is the one place that knows the names; a new encoder is one more entry of ``ENCODERS``. Names that begin with
``timm/`` need no entry: any network of timm that gives the maps of an encoder is one (``timm_facts.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from model.encoders.encoder import LAST_STAGE, Encoder, EncoderVariant
from model.encoders.resnet import DEEP, NARROW, PLAIN, SMALL, ResNetEncoder, resnet_grid
from model.encoders.swin import SWIN_SIDE, SwinEncoder, swin_grid
from model.encoders.timm_encoder import TimmEncoder
from model.encoders.timm_facts import PREFIX, STAGE_STRIDES, STRIDES, can_have, facts, unknown
from model.encoders.vgg import VGGEncoder, vgg_grid


@dataclass(frozen=True)
class EncoderSpec:
    """One image encoder."""

    title: str  # in tables and messages
    family: type[Encoder]  # the class of the network, which also knows the tensor names in weight files
    build: Callable[[str, int, EncoderVariant], Encoder]  # from stem, last stage and variant, with random weights
    grid: Callable[[int, int], int]  # (image side in pixels, output stride) -> side of stage 3's grid
    stems: tuple[str, ...] = (PLAIN,)  # that it can have
    sides: tuple[int, ...] | None = None  # the only image sides that it takes; None for all
    torchvision: str | None = None  # torchvision's name of its ImageNet weights; None if there are none
    published_file: str | None = None  # with the deep stem, that the published settings start from
    # Output stride -> (step, rest) of the image sides that it takes, S % step == rest; None: the method's.
    size_rule: Callable[[int], tuple[int, int] | None] = lambda stride: None
    strides: tuple[int, ...] = ()  # output strides that may be asked for; empty: it has one
    one_grid: bool = True  # whether stages 3 and 4 have the same grid at output strides 8 and 16
    any_size: bool = True  # whether it also takes images of any height and width
    patch: int | None = None  # side in pixels of the patches of a transformer on one grid; None for other networks


def _resnet(name: str, title: str, published_file: str | None = None) -> EncoderSpec:
    def build(stem: str, last_stage: int, variant: EncoderVariant) -> Encoder:
        return ResNetEncoder(name, stem == DEEP, last_stage, variant)

    weights = None if name in (SMALL, NARROW) else name
    return EncoderSpec(
        title, ResNetEncoder, build, resnet_grid, (PLAIN, DEEP), None, weights, published_file, strides=STRIDES
    )


ENCODERS: dict[str, EncoderSpec] = {
    SMALL: _resnet(SMALL, "ResNet-10"),
    NARROW: _resnet(NARROW, "narrow ResNet-10"),
    "resnet18": _resnet("resnet18", "ResNet-18"),
    "resnet34": _resnet("resnet34", "ResNet-34"),
    "resnet50": _resnet("resnet50", "ResNet-50", "resnet50_v2.pth"),
    "resnet101": _resnet("resnet101", "ResNet-101", "resnet101_v2.pth"),
    "vgg16": EncoderSpec(
        "VGG-16",
        VGGEncoder,
        lambda stem, last_stage, variant: VGGEncoder(last_stage),
        lambda size, stride: vgg_grid(size),
        torchvision="vgg16_bn",
    ),
    "swin_b": EncoderSpec(
        "Swin-B",
        SwinEncoder,
        lambda stem, last_stage, variant: SwinEncoder(variant),
        lambda size, stride: swin_grid(size),
        sides=(SWIN_SIDE,),
    ),
}
DEFAULT = "resnet50"
# How people write networks of timm, by timm's names without the weights' tag.
TIMM_TITLES = {
    "tf_efficientnet_lite0": "EfficientNet-Lite0",
    "resnet50": "ResNet-50 of timm",
    "convnext_tiny": "ConvNeXt-T",
    "vit_small_patch14_dinov2": "DINOv2 ViT-S/14",
    "vit_small_patch14_reg4_dinov2": "DINOv2 ViT-S/14 with registers",
    "vit_base_patch14_dinov2": "DINOv2 ViT-B/14",
    "vit_base_patch14_reg4_dinov2": "DINOv2 ViT-B/14 with registers",
    "vit_large_patch14_dinov2": "DINOv2 ViT-L/14",
    "vit_small_patch16_dinov3": "DINOv3 ViT-S/16",
    "vit_base_patch16_dinov3": "DINOv3 ViT-B/16",
    "vit_large_patch16_dinov3": "DINOv3 ViT-L/16",
}


def spec_of(backbone: str) -> EncoderSpec:
    """Return the encoder of a name in ``ENCODERS``, or of ``timm/<name>``."""
    return ENCODERS[backbone] if backbone in ENCODERS else _timm(backbone)


@cache
def _timm(backbone: str) -> EncoderSpec:
    known = facts(backbone)

    def build(stem: str, last_stage: int, variant: EncoderVariant) -> Encoder:
        return TimmEncoder(backbone, last_stage, variant)

    if known.transformer:
        patch = known.patch
        return EncoderSpec(
            title_of(backbone),
            TimmEncoder,
            build,
            lambda size, stride: resnet_grid(size, patch),
            size_rule=lambda stride: (patch, 1),
            any_size=False,
            patch=patch,
        )

    def size_rule(stride: int) -> tuple[int, int] | None:
        if stride < STAGE_STRIDES[LAST_STAGE]:
            return stride, 1
        return None if known.centred else (stride, 0)

    strides = tuple(stride for stride in STRIDES if can_have(backbone, stride))
    return EncoderSpec(
        title_of(backbone),
        TimmEncoder,
        build,
        resnet_grid,
        size_rule=size_rule,
        strides=strides,
        one_grid=len(strides) > 1,
        any_size=known.centred,
    )


def build(
    backbone: str, stem: str = PLAIN, last_stage: int = LAST_STAGE, variant: EncoderVariant | None = None
) -> Encoder:
    """Return an encoder with random weights, without the stages after ``last_stage``."""
    encoder = spec_of(backbone).build(stem, last_stage, variant or EncoderVariant())
    encoder.title = in_words(backbone, stem)
    return encoder


def in_words(backbone: str, stem: str) -> str:
    """Return an encoder's title, and its stem where it may have another."""
    spec = spec_of(backbone)
    return f"{spec.title} with a {stem} stem" if len(spec.stems) > 1 else spec.title


def problem_of(
    backbone: str, families: tuple[type[Encoder], ...], one_grid: bool = False, pyramid: bool = False
) -> str | None:
    """Return why a method does not take an encoder, and which it takes; None if it does.

    Args:
        families: classes of the encoders written here that the method takes.
        one_grid: whether it needs stages 3 and 4 on the same grid.
        pyramid: whether it needs stages 2, 3 and 4 at strides 8, 16 and 32.
    """
    names = [name for name, spec in ENCODERS.items() if spec.family in families]
    if not backbone.startswith(PREFIX):
        near = get_close_matches(backbone, names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return None if backbone in names else f"it is not one of {', '.join(names)}, {PREFIX}<name>{hint}"
    if (problem := unknown(backbone)) is not None:
        return problem
    if one_grid and not spec_of(backbone).one_grid:
        needed, fitting = "stages 3 and 4 on one grid", "resnet50, tf_efficientnet_lite0, vit_small_patch14_dinov2"
    elif pyramid and spec_of(backbone).patch is not None:
        needed, fitting = (
            "maps at strides 8, 16 and 32",
            "resnet50, tf_efficientnet_lite0, swin_tiny_patch4_window7_224",
        )
    else:
        return None
    return f"this method needs {needed}; it takes {', '.join(names)}, and of timm for example {fitting}"


def downloadable() -> tuple[str, ...]:
    """Return the names of the encoders that torchvision has ImageNet weights of."""
    return tuple(name for name, spec in ENCODERS.items() if spec.torchvision is not None)


def title_of(backbone: str | None) -> str:
    """Return an encoder's name in tables and messages; "" for a model without one."""
    if backbone is None or backbone in ENCODERS:
        return "" if backbone is None else ENCODERS[backbone].title
    name = backbone.removeprefix(PREFIX)
    return TIMM_TITLES.get(name.partition(".")[0], name)
