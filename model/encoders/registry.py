"""Encoders by the name that configs give them: how each is built, and what it offers to methods (``model/wants.py``).

A module registers its encoders by ``register_encoder``, one of another repository too. ``MODULES`` says where those of
this project are, so that a name imports no other one. Networks of timm need no entry: any one that gives the maps of an
encoder is one (``timm_facts.py``); those of EfficientNet-Lite are built without it.
"""

import importlib
from typing import Any

from model.encoders.encoder import Encoder
from model.encoders.spec import EncoderSpec, timm_title
from model.encoders.variant import LAST_STAGE, PLAIN, PREFIX, USUAL, EncoderVariant
from model.registration import Registry

RESNETS = ("resnet10", "resnet18", "resnet34", "resnet50", "resnet101")
LITES = tuple(f"{PREFIX}tf_efficientnet_lite{size}{tag}" for size in range(5) for tag in ("", ".in1k"))
# Names of this project's encoders -> the module beside this one that registers them.
MODULES = {**dict.fromkeys(RESNETS, "resnet"), "vgg16": "vgg", "swin_b": "swin", **dict.fromkeys(LITES, "lite")}


def _import_module_of(backbone: str) -> None:
    """Import the module that registers an encoder of this project."""
    if backbone in MODULES:
        importlib.import_module(f"{__package__}.{MODULES[backbone]}")


# Of the modules that are imported; a registration states a title, and fields of ``EncoderSpec`` by name.
ENCODERS = Registry(
    "encoder",
    "model.encoder.backbone",
    lambda _, cls, title, **offered: EncoderSpec(title, cls, **offered),
    before=_import_module_of,
)
register_encoder = ENCODERS.register


def encoders() -> dict[str, EncoderSpec]:
    """Return every encoder that is no network of timm by its name, those of this project first."""
    for name in MODULES:
        _import_module_of(name)
    return {name: ENCODERS[name] for name in (*MODULES, *ENCODERS) if not name.startswith(PREFIX)}


def spec_of(backbone: str, variant: EncoderVariant = USUAL) -> EncoderSpec:
    """Return what a registered encoder, or ``timm/<name>``, offers in a variant."""
    _import_module_of(backbone)
    if backbone not in ENCODERS:
        from model.encoders.timm_encoder import offers  # which no other encoder needs

        return offers(backbone)
    spec = ENCODERS[backbone]
    if spec.without_norms is None or variant.batch_norm:
        return spec
    return spec.without_norms


def build(backbone: str, stem: str = PLAIN, last_stage: int = LAST_STAGE, variant: EncoderVariant = USUAL) -> Encoder:
    """Return an encoder with random weights, without the stages after ``last_stage``."""
    spec = spec_of(backbone, variant)
    family: Any = spec.family  # whose ``__init__`` is not that of the base class
    encoder: Encoder = family(backbone, stem, last_stage, variant)
    encoder.title = in_words(spec, stem)
    encoder.torchvision = spec.torchvision
    return encoder


def in_words(spec: EncoderSpec, stem: str) -> str:
    """Return an encoder's title, and its stem where it may have another."""
    return f"{spec.title} with a {stem} stem" if len(spec.stems) > 1 else spec.title


def title_of(backbone: str | None) -> str:
    """Return an encoder's name in tables and messages; "" for a method without one."""
    if backbone is None:
        return ""
    _import_module_of(backbone)
    if backbone in ENCODERS:
        return ENCODERS[backbone].title
    return timm_title(backbone)
