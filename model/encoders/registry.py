"""Encoders by the name that configs give them: how each is built, and what it offers to methods (``needs.py``).

This is the one place that knows the names; a new encoder, of any module, is registered here by ``register_encoder``.
Names that begin with ``timm/`` need no entry: any network of timm that gives the maps of an encoder is one
(``timm_facts.py``); those of EfficientNet-Lite are built without it (``lite.py``).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from operator import attrgetter
from typing import Any

import torch

from model.encoders.encoder import Encoder, Features
from model.encoders.lite import LiteEncoder, is_lite
from model.encoders.residual import SMALL
from model.encoders.resnet import ResNetEncoder
from model.encoders.swin import SWIN_SIDE, SwinEncoder
from model.encoders.timm_encoder import TimmEncoder
from model.encoders.timm_facts import PREFIX, STRIDES, can_have, facts
from model.encoders.variant import DEEP, LAST_STAGE, PLAIN, STAGE_STRIDES, USUAL, EncoderVariant
from model.encoders.vgg import VGGEncoder
from model.mismatch import ModelMismatch
from model.tables import add_once


@dataclass(frozen=True)
class EncoderSpec:
    """The offers of an image encoder, before it is built."""

    title: str  # in tables and messages
    family: type[Encoder]  # the class of the network, which also knows the tensor names in weight files
    stems: tuple[str, ...] = (PLAIN,)  # that it can have
    strides: tuple[int, ...] = ()  # output strides that may be asked for; empty: its grids are fixed
    grids: tuple[int, ...] = tuple(
        STAGE_STRIDES.values()
    )  # strides of stages 1, 2, 3 and 4, at its largest output stride
    blocks: tuple[int, ...] = tuple(STAGE_STRIDES)  # stages inside which it has maps
    rounds_up: bool = True  # whether a side of S pixels gives ceil(S / stride) cells, else floor
    any_size: bool = True  # whether it also takes images of any height and width
    # Whether image sides go by its stride (s k + 1 pixels, at stride 32 s k), else by the rule of the method.
    sides_by_stride: bool = False
    sides: tuple[int, ...] | None = None  # the only image sides that it takes; None for all
    torchvision: str | None = None  # torchvision's name of its ImageNet weights; None if there are none
    without_norms: "EncoderSpec | None" = None  # what it offers to methods that leave out its batch norms

    @property
    def patch(self) -> int | None:
        """The side in pixels of the patches, where all stages have one grid of them; None for others."""
        return self.grids[0] if len(set(self.grids)) == 1 else None

    def stride(self, stage: int, output_stride: int) -> int:
        """Return the stride of a stage, 1..4, at an output stride, which fixed grids do not depend on."""
        own = self.grids[stage - 1]
        return min(own, output_stride) if self.strides else own

    def cells(self, size: int, stage: int, output_stride: int) -> int:
        """Return the side of a stage's grid for an image of ``size`` pixels at an output stride."""
        stride = self.stride(stage, output_stride)
        return -(-size // stride) if self.rounds_up else size // stride


ENCODERS: dict[str, EncoderSpec] = {}


def add_encoder(name: str, spec: EncoderSpec) -> None:
    """Make an encoder available as ``model.encoder.backbone: <name>``; ValueError: another module has registered it."""
    add_once(ENCODERS, name, spec, "model.encoder.backbone", attrgetter("family"))


def register_encoder(name: str, title: str, **offered: Any) -> Callable[[type[Encoder]], type[Encoder]]:
    """Return a class decorator that does so, with the ``offered`` fields of ``EncoderSpec``."""

    def add(cls: type[Encoder]) -> type[Encoder]:
        add_encoder(name, EncoderSpec(title, cls, **offered))
        return cls

    return add


add_encoder(SMALL, EncoderSpec("ResNet-10", ResNetEncoder, (PLAIN, DEEP), STRIDES))
for _name in ("resnet18", "resnet34", "resnet50", "resnet101"):
    _title = _name.replace("resnet", "ResNet-")
    add_encoder(_name, EncoderSpec(_title, ResNetEncoder, (PLAIN, DEEP), STRIDES, torchvision=_name))
_inside = (2, 3, 4)  # stages of VGG with maps
_plain_vgg = EncoderSpec("VGG-16 without batch norm", VGGEncoder, blocks=_inside, rounds_up=False, torchvision="vgg16")
_vgg = EncoderSpec("VGG-16", VGGEncoder, grids=(4, 8, 16, 16), blocks=_inside, torchvision="vgg16_bn")
add_encoder("vgg16", replace(_vgg, without_norms=_plain_vgg))
_sides = (SWIN_SIDE,)
add_encoder("swin_b", EncoderSpec("Swin-B", SwinEncoder, any_size=False, sides_by_stride=True, sides=_sides))
# How people write networks of timm, by timm's names without the weights' tag.
TIMM_TITLES = {f"tf_efficientnet_lite{i}": f"EfficientNet-Lite{i}" for i in range(3)}
TIMM_TITLES |= {"resnet50": "ResNet-50 of timm", "convnext_tiny": "ConvNeXt-T"}
for _size, _vit in (("small", "ViT-S"), ("base", "ViT-B"), ("large", "ViT-L")):
    TIMM_TITLES[f"vit_{_size}_patch14_dinov2"] = f"DINOv2 {_vit}/14"
    TIMM_TITLES[f"vit_{_size}_patch14_reg4_dinov2"] = f"DINOv2 {_vit}/14 with registers"
    TIMM_TITLES[f"vit_{_size}_patch16_dinov3"] = f"DINOv3 {_vit}/16"


def spec_of(backbone: str, variant: EncoderVariant = USUAL) -> EncoderSpec:
    """Return what the encoder of a name in ``ENCODERS``, or of ``timm/<name>``, offers in a variant."""
    spec = ENCODERS[backbone] if backbone in ENCODERS else _spec_of_timm(backbone)
    if spec.without_norms is None or variant.batch_norm:
        return spec
    return spec.without_norms


@cache
def _spec_of_timm(backbone: str) -> EncoderSpec:
    """Return what a network of timm offers."""
    title = title_of(backbone)
    if is_lite(backbone):
        return EncoderSpec(title, LiteEncoder, strides=STRIDES, sides_by_stride=True)
    known = facts(backbone)
    if known.transformer:
        return EncoderSpec(title, TimmEncoder, grids=(known.patch,) * LAST_STAGE, any_size=False)
    strides = tuple(stride for stride in STRIDES if can_have(backbone, stride))
    return EncoderSpec(title, TimmEncoder, strides=strides, any_size=known.centred, sides_by_stride=True)


def build(backbone: str, stem: str = PLAIN, last_stage: int = LAST_STAGE, variant: EncoderVariant = USUAL) -> Encoder:
    """Return an encoder with random weights, without the stages after ``last_stage``."""
    spec = spec_of(backbone, variant)
    family: Any = spec.family  # whose ``__init__`` is not that of the base class
    encoder: Encoder = family(backbone, stem, last_stage, variant)
    encoder.title = in_words(spec, stem)
    encoder.torchvision = spec.torchvision
    is_own = not family.__module__.startswith(f"{__package__}.")  # tests check those that are written here
    contradiction = next(_contradictions(encoder, spec, variant), None) if is_own else None
    if contradiction is not None:
        raise ModelMismatch(f"encoder '{backbone}' ({family.__name__} of {family.__module__}): {contradiction}")
    return encoder


def _contradictions(encoder: Encoder, spec: EncoderSpec, variant: EncoderVariant) -> Iterator[str]:
    """Yield where an encoder's maps of a small image are not those that its class and its spec state, and the fix."""
    side = spec.sides[0] if spec.sides else 2 * max(spec.grids) + 1
    given = _maps_of_nothing(encoder, side)
    if given is None:
        return
    for stage in variant.returned_stages(encoder.last_stage):
        cells = spec.cells(side, stage, variant.output_stride)
        stated = (encoder.channels.get(stage), cells, cells)
        found = tuple(given.stage[stage].shape[1:]) if stage in given.stage else "nothing"
        if found != stated:
            what = f"stage {stage} of a {side} px image is stated as {stated} (channels, height, width), and is {found}"
            yield f"{what}; correct grids= in register_encoder, or channels in the class"
        count = encoder.intermediate_counts.get(stage, 0)
        blocks = len(given.intermediate.get(stage, ()))
        needs_some = stage in spec.blocks and stage in variant.intermediate
        if blocks != count or (needs_some and not count):
            what = f"{count} maps are stated inside stage {stage}, and steps() yields {blocks}"
            yield f"{what}; correct intermediate_counts, or blocks= in register_encoder"


@torch.no_grad()
def _maps_of_nothing(encoder: Encoder, side: int) -> Features | None:
    """Return an encoder's maps of a black image, (1, C, h, w); None for an encoder without values."""
    device = next(encoder.parameters()).device
    if device.type == "meta":
        return None
    is_training = encoder.training
    features = encoder.eval()(torch.zeros(1, 3, side, side, device=device), intermediate=True)
    encoder.train(is_training)
    return features


def in_words(spec: EncoderSpec, stem: str) -> str:
    """Return an encoder's title, and its stem where it may have another."""
    return f"{spec.title} with a {stem} stem" if len(spec.stems) > 1 else spec.title


def downloadable() -> tuple[str, ...]:
    """Return the names of the encoders that torchvision has ImageNet weights of."""
    return tuple(name for name, spec in ENCODERS.items() if spec.torchvision is not None)


def title_of(backbone: str | None) -> str:
    """Return an encoder's name in tables and messages; "" for a model without one."""
    if backbone is None:
        return ""
    if backbone in ENCODERS:
        return ENCODERS[backbone].title
    name = backbone.removeprefix(PREFIX)
    return TIMM_TITLES.get(name.partition(".")[0], name)
