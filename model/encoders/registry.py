"""Encoders by the name that configs give them: how each is built, on which grid it works, what its weights are called.

This is the one place that knows the names; a new encoder is one more entry of ``ENCODERS``. Names that begin with
``timm/`` need no entry: any network of timm that gives the maps of an encoder is one (``timm_facts.py``); those of
EfficientNet-Lite are built without it (``lite.py``).
"""

from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache

from model.encoders.encoder import Encoder
from model.encoders.lite import LiteEncoder, is_lite
from model.encoders.residual import SMALL
from model.encoders.resnet import ResNetEncoder
from model.encoders.swin import SWIN_SIDE, SwinEncoder
from model.encoders.timm_encoder import TimmEncoder
from model.encoders.timm_facts import PREFIX, STRIDES, can_have, facts, unknown
from model.encoders.variant import DEEP, LAST_STAGE, PLAIN, USUAL, EncoderVariant
from model.encoders.vgg import VGGEncoder


@dataclass(frozen=True)
class EncoderSpec:
    """One image encoder."""

    title: str  # in tables and messages
    family: type[Encoder]  # the class of the network, which also knows the tensor names in weight files
    stems: tuple[str, ...] = (PLAIN,)  # that it can have
    strides: tuple[int, ...] = ()  # output strides that may be asked for; empty: it has one
    stride: int = 0  # in pixels, of stage 3's grid where none can be asked for
    transformer: bool = False  # whether all stages have one grid, of patches
    any_size: bool = True  # whether it also takes images of any height and width
    sides: tuple[int, ...] | None = None  # the only image sides that it takes; None for all
    torchvision: str | None = None  # torchvision's name of its ImageNet weights; None if there are none


ENCODERS = {SMALL: EncoderSpec("ResNet-10", ResNetEncoder, (PLAIN, DEEP), STRIDES)}
for _name in ("resnet18", "resnet34", "resnet50", "resnet101"):
    _title = _name.replace("resnet", "ResNet-")
    ENCODERS[_name] = EncoderSpec(_title, ResNetEncoder, (PLAIN, DEEP), STRIDES, torchvision=_name)
ENCODERS["vgg16"] = EncoderSpec("VGG-16", VGGEncoder, stride=16, torchvision="vgg16_bn")
ENCODERS["swin_b"] = EncoderSpec("Swin-B", SwinEncoder, stride=16, sides=(SWIN_SIDE,))
# Needs of methods in stages 2, 3 and 4, in words for messages.
ANY_GRIDS, ONE_GRID, PYRAMID = "", "stages 3 and 4 on one grid", "maps at strides 8, 16 and 32"
# How people write networks of timm, by timm's names without the weights' tag.
TIMM_TITLES = {f"tf_efficientnet_lite{i}": f"EfficientNet-Lite{i}" for i in range(3)}
TIMM_TITLES |= {"resnet50": "ResNet-50 of timm", "convnext_tiny": "ConvNeXt-T"}
for _size, _vit in (("small", "ViT-S"), ("base", "ViT-B"), ("large", "ViT-L")):
    TIMM_TITLES[f"vit_{_size}_patch14_dinov2"] = f"DINOv2 {_vit}/14"
    TIMM_TITLES[f"vit_{_size}_patch14_reg4_dinov2"] = f"DINOv2 {_vit}/14 with registers"
    TIMM_TITLES[f"vit_{_size}_patch16_dinov3"] = f"DINOv3 {_vit}/16"


@cache
def spec_of(backbone: str) -> EncoderSpec:
    """Return the encoder of a name in ``ENCODERS``, or of ``timm/<name>``."""
    if backbone in ENCODERS:
        return ENCODERS[backbone]
    if is_lite(backbone):
        return EncoderSpec(title_of(backbone), LiteEncoder, strides=STRIDES)
    known = facts(backbone)
    if known.transformer:
        return EncoderSpec(title_of(backbone), TimmEncoder, stride=known.patch, transformer=True, any_size=False)
    strides = tuple(stride for stride in STRIDES if can_have(backbone, stride))
    return EncoderSpec(title_of(backbone), TimmEncoder, strides=strides, any_size=known.centred)


def build(backbone: str, stem: str = PLAIN, last_stage: int = LAST_STAGE, variant: EncoderVariant = USUAL) -> Encoder:
    """Return an encoder with random weights, without the stages after ``last_stage``."""
    encoder = spec_of(backbone).family(backbone, stem, last_stage, variant)
    encoder.title = encoder.title or in_words(backbone, stem)
    encoder.torchvision = encoder.torchvision or spec_of(backbone).torchvision
    return encoder


def in_words(backbone: str, stem: str) -> str:
    """Return an encoder's title, and its stem where it may have another."""
    spec = spec_of(backbone)
    return f"{spec.title} with a {stem} stem" if len(spec.stems) > 1 else spec.title


def problem_of(backbone: str, families: tuple[type[Encoder], ...], grids: str = ANY_GRIDS) -> str | None:
    """Return why a method of these families and grids takes no such encoder, and which it takes; None if it does."""
    names = [name for name, spec in ENCODERS.items() if spec.family in families]
    if backbone in names:
        return None
    if not backbone.startswith(PREFIX):
        near = get_close_matches(backbone, names, 1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        return f"it is not one of {', '.join(names)}, {PREFIX}<name>{hint}"
    problem = None if is_lite(backbone) else unknown(backbone)
    if problem is not None or _has_grids(spec_of(backbone), grids):
        return problem
    its_grids = "one grid, of patches" if spec_of(backbone).transformer else "grids of strides 8, 16 and 32 alone"
    fitting = "vit_small_patch14_dinov2" if grids == ONE_GRID else "swin_tiny_patch4_window7_224"
    examples = f"timm/resnet50, timm/tf_efficientnet_lite0, timm/{fitting}"
    takes = f"it takes {', '.join(names)}, and of timm for example {examples}"
    return f"it has {its_grids}, this method needs {grids}; {takes}"


def _has_grids(spec: EncoderSpec, grids: str) -> bool:
    """Return whether a network of timm has the grids that a method needs."""
    if grids == ONE_GRID:
        return spec.transformer or len(spec.strides) > 1
    return grids == ANY_GRIDS or not spec.transformer


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
