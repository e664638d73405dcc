"""The layouts of encoder weights: recognise a state dict, rename its tensors to ours, find those that are missing."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from model.encoders.encoder import LAST_STAGE, Encoder
from model.encoders.registry import ENCODERS, families, spec_of
from model.encoders.swin import SwinEncoder
from model.encoders.timm_encoder import CONSTANTS
from model.encoders.vgg import VGGEncoder

PREFIXES = ("module.", "encoder.", "backbone.")
COUNTER = "num_batches_tracked"
SWIN_STAGE = ".layers.3."  # in names of published checkpoints with a Swin transformer
RESIDUAL_BLOCK = r"(?:^|\.)layer3\.(\d+)\.conv1\.weight$"
BOTTLENECK = "layer3.0.conv3.weight"  # how a name of every ResNet with bottlenecks ends
OWN = "encoder."  # prefix of the encoder's tensors in a whole model's state dict


@dataclass
class Recognised:
    """The encoder that a state dict fits, and that encoder's tensors (under our names) that it lacks."""

    backbone: str
    stem: str  # "plain" for encoders with one stem
    missing: list[str]
    absent_stages: list[int]  # stages without any tensor
    inside: list[str]  # missing tensors of the other stages: load_encoder refuses such a file


def recognise(state: dict[str, Tensor], named: str | None = None) -> Recognised | None:
    """Return the encoder that a state dict fits, the one that lacks least; None if none.

    Args:
        named: a network of timm that it may be too, ``timm/<name>``.
    """
    state = encoder_part(state)
    fits = []
    for backbone in (*ENCODERS, *([] if named is None else [named])):
        for stem in spec_of(backbone).stems:
            encoder = _bare(backbone, stem)
            own, renamed = encoder.state_dict(), rename(encoder, state)
            given = {k for k in renamed if k in own}
            if given and not encoder.foreign(renamed) and all(own[k].shape == renamed[k].shape for k in given):
                missing, begun = missing_of(encoder, given)
                absent = sorted({encoder.stage_of(k) for k in own} - begun)
                inside = [k for k in missing if encoder.stage_of(k) in begun]
                fits.append(Recognised(backbone, stem, missing, absent, inside))
    return min(fits, key=lambda fit: len(fit.missing), default=None)


@cache
def _bare(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to compare names and shapes with."""
    with torch.device("meta"):
        return spec_of(backbone).build(stem, LAST_STAGE, None)


def encoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder if a state dict is of a whole model of ours, otherwise all of them."""
    return {k: v for k, v in state.items() if k.startswith(OWN)} or state


def is_encoder_tensor(name: str) -> bool:
    """Return whether a tensor has a name as in weight files of a bare ImageNet network."""
    name = _strip(name)
    return any(re.match(family.names_in_files, name) for family in families())


def describe(source: Encoder | dict[str, Tensor]) -> str:
    """Return a description of an encoder or a state dict, for messages: family, stem, depth."""
    if isinstance(source, Encoder) and (words := source.describe()) is not None:
        return words
    state = source.state_dict() if isinstance(source, Encoder) else source
    state = {_strip(k): v for k, v in state.items()}
    found = (family.describe_weights(state) for family in families())
    return next((words for words in found if words is not None), "no encoder known here")


def title_by_names(names: Iterable[str]) -> str:
    """Return the title of the network whose tensors have these names, also under the names of a published checkpoint.

    It reads names alone, so that a checkpoint that does not load can still be named.
    """
    names = list(names)
    if any(SWIN_STAGE in name for name in names):
        return next(spec.title for spec in ENCODERS.values() if spec.family is SwinEncoder)
    blocks = {match[1] for name in names if (match := re.search(RESIDUAL_BLOCK, name))}
    if not blocks:
        return next(spec.title for spec in ENCODERS.values() if spec.family is VGGEncoder)
    stage3 = len(blocks), any(name.endswith(BOTTLENECK) for name in names)
    known = (spec.title for spec in ENCODERS.values() if spec.stage3 == stage3)
    return next(known, f"ResNet with {len(blocks)} blocks in stage 3")


def _strip(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def missing_of(encoder: Encoder, given: Iterable[str]) -> tuple[list[str], set[int]]:
    """Return the tensors of an encoder that are not given, and the stages that have a given tensor."""
    given = set(given) - set(CONSTANTS)
    own = [k for k in encoder.state_dict() if k not in CONSTANTS and not k.endswith(COUNTER)]
    return [k for k in own if k not in given], {encoder.stage_of(k) for k in given}


def rename(encoder: Encoder, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of any known layout under the names of ``encoder``; unknown names stay as they are."""
    return encoder.own_names({_strip(k): v for k, v in state.items()})
