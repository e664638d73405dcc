"""Fill an encoder from the weight layouts that circulate: torchvision's, the deep stem's, base-stage checkpoints."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import get_args, get_type_hints

import torch
from torch import Tensor

from model.contract import Mismatch
from model.encoder import VGG_STAGE_ENDS, Encoder, EncoderSettings, ResNetEncoder, build_encoder

# Deep-stem files of this field name the stem conv1..3 / bn1..3, or conv1.{0,1,3,4,6} / bn1; here it is one Sequential.
DEEP_STEM = {"conv1": "layer0.0", "bn1": "layer0.1", "conv2": "layer0.3", "bn2": "layer0.4"}
DEEP_STEM |= {"conv3": "layer0.6", "bn3": "layer0.7"}
NESTED_DEEP_STEM = {f"conv1.{i}": f"layer0.{i}" for i in (0, 1, 3, 4, 6)} | {"bn1": "layer0.7"}
PLAIN_STEM = {"conv1": "layer0.0", "bn1": "layer0.1"}
UNUSED = ("fc.", "classifier.")
PREFIXES = ("module.", "encoder.", "backbone.")
COUNTER = "num_batches_tracked"
OWN = "encoder."  # of a whole model's tensors, those of its encoder


@dataclass
class Recognised:
    """Which encoder a state dict fits, and which of that encoder's tensors (under our names) it lacks."""

    backbone: str
    stem: str  # "plain" for VGG
    missing: list[str]
    absent_stages: list[int]  # of which it has nothing
    inside: list[str]  # missing tensors of stages of which it has something: load_encoder refuses such a file


def recognise(state: dict[str, Tensor]) -> Recognised | None:
    """Return the encoder of :class:`EncoderSettings` that a state dict fits, the one that lacks least; None if none."""
    state = encoder_part(state)
    fits = []
    for backbone in get_args(get_type_hints(EncoderSettings)["backbone"]):
        for stem in ("plain",) if backbone == "vgg16" else ("plain", "deep"):
            encoder = _bare(backbone, stem)
            own, renamed = encoder.state_dict(), _rename(encoder, state)
            given = {k for k in renamed if k in own}
            if given and not _foreign(encoder, renamed) and all(own[k].shape == renamed[k].shape for k in given):
                missing, begun = _missing(own, given)
                absent = sorted({_stage(k) for k in own} - begun)
                fits.append(Recognised(backbone, stem, missing, absent, [k for k in missing if _stage(k) in begun]))
    return min(fits, key=lambda fit: len(fit.missing), default=None)


@cache
def _bare(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to compare names and shapes with."""
    with torch.device("meta"):
        return build_encoder(EncoderSettings(backbone, stem))


def encoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder where a state dict is a whole model's of ours, else all of them."""
    return {k: v for k, v in state.items() if k.startswith(OWN)} or state


def load_encoder(encoder: Encoder, state: dict[str, Tensor], partial: bool) -> list[str]:
    """Fill ``encoder`` from ``state`` (float16 or float32); return the names of tensors that were not filled.

    Raises:
        Mismatch: another stem or depth, wrong shapes, values that are not finite, or - unless ``partial`` -
            tensors of the encoder that the file does not hold.
    """
    renamed = _rename(encoder, state)
    own = encoder.state_dict()
    given = {k: v for k, v in renamed.items() if k in own}
    foreign = _foreign(encoder, renamed)
    if not given or foreign:
        example = f", such as {foreign[0]}" if foreign else ""
        raise Mismatch(
            f"these are not weights of this encoder ({describe(encoder)}): it holds {describe(state)}{example}"
        )
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
            raise Mismatch(f"tensor {name} has shape {shapes}; it holds {describe(state)}, not {describe(encoder)}")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Mismatch(f"tensor {name} holds values that are not finite")
    missing, begun = _missing(own, given)
    inside = [k for k in missing if _stage(k) in begun]  # a partial file may stop after a stage, not inside one
    if inside:
        raise Mismatch(f"it lacks {inside[0]}: it holds {describe(state)}, expected {describe(encoder)}")
    if missing and not partial:
        raise Mismatch(
            f"{len(missing)} tensors are missing, from {missing[0]} on; "
            "bring a complete file or set model.encoder.partial: true to start them from random values"
        )
    encoder.load_state_dict({k: v.to(own[k].dtype) for k, v in given.items()}, strict=False)
    return missing


def is_encoder_tensor(name: str) -> bool:
    """Tell whether a tensor's name is one that files of a bare ImageNet network have."""
    name = _strip(name)
    return name.startswith(UNUSED) or re.match(r"(layer[0-4]|features|conv[1-3]|bn[1-3])\.", name) is not None


def describe(source: Encoder | dict[str, Tensor]) -> str:
    """Return in words what an encoder or a state dict is: family, stem, depth."""
    state = source.state_dict() if isinstance(source, Encoder) else source
    state = {_strip(k): v for k, v in state.items()}
    if "features.0.weight" in state or "layer0.0.bias" in state:
        return "a VGG-16"
    stem = state.get("layer0.0.weight", state.get("conv1.weight", state.get("conv1.0.weight")))
    stage3 = {k.split(".")[1] for k in state if re.match(r"layer3\.\d+\.conv1\.weight", k)}
    if stem is None:
        return "no encoder known here"
    kind = "plain 7x7" if stem.shape[-1] == 7 else "deep 3x3"
    block = "bottlenecks" if any(".conv3." in k for k in state if k.startswith("layer1")) else "basic blocks"
    return f"a ResNet with a {kind} stem and {len(stage3)} {block} in stage 3"


def _strip(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _stage(name: str) -> int:
    return int(name[len("layer")])


def _foreign(encoder: Encoder, renamed: dict[str, Tensor]) -> list[str]:
    """Return the tensors that belong to a stage of the encoder by their name, but not to this encoder."""
    own = encoder.state_dict()
    return [k for k in renamed if k not in own and re.match(r"layer[0-4]\.", k) and _stage(k) <= encoder.last_stage]


def _missing(own: Iterable[str], given: Iterable[str]) -> tuple[list[str], set[int]]:
    """Return the tensors of an encoder that are not given, and the stages of which any is."""
    given = set(given)
    return [k for k in own if k not in given and not k.endswith(COUNTER)], {_stage(k) for k in given}


def _rename(encoder: Encoder, state: dict[str, Tensor]) -> dict[str, Tensor]:
    state = {_strip(k): v for k, v in state.items()}
    if "features.0.weight" in state:  # torchvision's VGG: one flat list of layers
        ends, out = (0, *VGG_STAGE_ENDS), {}
        for name, tensor in state.items():
            if name.startswith("features."):
                _, index, leaf = name.split(".")
                stage = max(i for i in range(5) if int(index) >= ends[i])
                out[f"layer{stage}.{int(index) - ends[stage]}.{leaf}"] = tensor
        return out
    stem = PLAIN_STEM
    if isinstance(encoder, ResNetEncoder) and "layer0.0.weight" not in state:
        if "conv1.0.weight" in state:
            stem = NESTED_DEEP_STEM
        elif "conv3.weight" in state:
            stem = DEEP_STEM
    out = {}
    for name, tensor in state.items():
        if name.startswith(UNUSED):
            continue
        owner, _, leaf = name.rpartition(".")
        out[f"{stem[owner]}.{leaf}" if owner in stem else name] = tensor
    return out
