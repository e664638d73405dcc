"""What an encoder's state dict is: the layouts that circulate, told apart and renamed to ours."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import get_args, get_type_hints

import torch
from torch import Tensor

from model.encoders.encoder import VGG_STAGE_ENDS, Encoder, EncoderSettings, ResNetEncoder, build_encoder
from model.encoders.swin import GEOMETRY, SWIN, SWIN_NAMES, UNUSED_SWIN, SwinEncoder

# Deep-stem files of this field name the stem conv1..3 / bn1..3, or conv1.{0,1,3,4,6} / bn1; here it is one Sequential.
DEEP_STEM = {"conv1": "layer0.0", "bn1": "layer0.1", "conv2": "layer0.3", "bn2": "layer0.4"}
DEEP_STEM |= {"conv3": "layer0.6", "bn3": "layer0.7"}
NESTED_DEEP_STEM = {f"conv1.{i}": f"layer0.{i}" for i in (0, 1, 3, 4, 6)} | {"bn1": "layer0.7"}
PLAIN_STEM = {"conv1": "layer0.0", "bn1": "layer0.1"}
UNUSED = ("fc.", "classifier.")
PREFIXES = ("module.", "encoder.", "backbone.")
ONE_STEM = ("vgg16", SWIN)
COUNTER = "num_batches_tracked"
STAGE = r"(?:layer|merge)([0-4])\."  # names of our encoders
BARE = r"(layer[0-4]|features|conv[1-3]|bn[1-3]|patch_embed|layers)\."  # names in files of a bare network
OWN = "encoder."  # of a whole model's tensors, those of its encoder


@dataclass
class Recognised:
    """Which encoder a state dict fits, and which of that encoder's tensors (under our names) it lacks."""

    backbone: str
    stem: str  # "plain" for those of one stem
    missing: list[str]
    absent_stages: list[int]  # of which it has nothing
    inside: list[str]  # missing tensors of stages of which it has something: load_encoder refuses such a file


def recognise(state: dict[str, Tensor]) -> Recognised | None:
    """Return the encoder that a state dict fits, the one that lacks least; None if none."""
    state = encoder_part(state)
    fits = []
    for backbone in (*get_args(get_type_hints(EncoderSettings)["backbone"]), SWIN):
        for stem in ("plain",) if backbone in ONE_STEM else ("plain", "deep"):
            encoder = _bare(backbone, stem)
            own, renamed = encoder.state_dict(), rename(encoder, state)
            given = {k for k in renamed if k in own}
            if given and not foreign_to(encoder, renamed) and all(own[k].shape == renamed[k].shape for k in given):
                missing, begun = missing_of(own, given)
                absent = sorted({stage_of(k) for k in own} - begun)
                fits.append(Recognised(backbone, stem, missing, absent, [k for k in missing if stage_of(k) in begun]))
    return min(fits, key=lambda fit: len(fit.missing), default=None)


@cache
def _bare(backbone: str, stem: str) -> Encoder:
    """Return an encoder without values, to compare names and shapes with."""
    with torch.device("meta"):
        return SwinEncoder({}) if backbone == SWIN else build_encoder(EncoderSettings(backbone, stem))


def encoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of the encoder where a state dict is a whole model's of ours, else all of them."""
    return {k: v for k, v in state.items() if k.startswith(OWN)} or state


def is_encoder_tensor(name: str) -> bool:
    """Tell whether a tensor's name is one that files of a bare ImageNet network have."""
    name = _strip(name)
    return name.startswith((*UNUSED, *UNUSED_SWIN)) or re.match(BARE, name) is not None


def describe(source: Encoder | dict[str, Tensor]) -> str:
    """Return in words what an encoder or a state dict is: family, stem, depth."""
    state = source.state_dict() if isinstance(source, Encoder) else source
    state = {_strip(k): v for k, v in state.items()}
    if "patch_embed.proj.weight" in state or "merge1.norm.weight" in state:
        return "a Swin transformer"
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


def stage_of(name: str) -> int:
    """Return the stage that a tensor of an encoder belongs to, by its name."""
    return int(re.match(STAGE, name)[1])


def foreign_to(encoder: Encoder, renamed: dict[str, Tensor]) -> list[str]:
    """Return the tensors that belong to a stage of the encoder by their name, but not to this encoder."""
    own = encoder.state_dict()
    return [k for k in renamed if k not in own and re.match(STAGE, k) and stage_of(k) <= encoder.last_stage]


def missing_of(own: Iterable[str], given: Iterable[str]) -> tuple[list[str], set[int]]:
    """Return the tensors of an encoder that are not given, and the stages of which any is."""
    given = set(given)
    return [k for k in own if k not in given and not k.endswith(COUNTER)], {stage_of(k) for k in given}


def rename(encoder: Encoder, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of any known layout under the names of ``encoder``; unknown names stay as they are."""
    state = {_strip(k): v for k, v in state.items()}
    if "features.0.weight" in state:  # torchvision's VGG: one flat list of layers
        ends, out = (0, *VGG_STAGE_ENDS), {}
        for name, tensor in state.items():
            if name.startswith("features."):
                _, index, leaf = name.split(".")
                stage = max(i for i in range(5) if int(index) >= ends[i])
                out[f"layer{stage}.{int(index) - ends[stage]}.{leaf}"] = tensor
        return out
    if isinstance(encoder, SwinEncoder):
        return _swin_names(state)
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


def _swin_names(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a Swin transformer's weights under our names, from its authors' file or from timm's.

    timm counts a patch merging to the stage that it opens, the authors to the one that it closes.
    """
    shift = int("layers.3.downsample.norm.weight" in state)
    out = {}
    for name, tensor in state.items():
        if name.startswith(UNUSED_SWIN) or name.endswith(GEOMETRY):
            continue
        name = re.sub(r"(?<=^layers\.)\d(?=\.downsample)", lambda m: str(int(m[0]) - shift), name)
        for pattern, ours in SWIN_NAMES:
            if re.fullmatch(pattern, name):
                name = re.sub(pattern, ours, name)
                break
        out[name] = tensor
    return out
