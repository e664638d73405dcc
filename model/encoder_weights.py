"""Fill an encoder from the weight layouts that circulate: torchvision's, the deep stem's, base-stage checkpoints."""

from __future__ import annotations

import re

import torch
import torchvision
from torch import Tensor

from model.contract import FewShotModel, Mismatch
from model.encoder import VGG_STAGE_ENDS, Encoder, ResNetEncoder
from model.swin import GEOMETRY, SWIN_NAMES, UNUSED_SWIN, SwinEncoder

# Deep-stem files of this field name the stem conv1..3 / bn1..3, or conv1.{0,1,3,4,6} / bn1; here it is one Sequential.
DEEP_STEM = {"conv1": "layer0.0", "bn1": "layer0.1", "conv2": "layer0.3", "bn2": "layer0.4"}
DEEP_STEM |= {"conv3": "layer0.6", "bn3": "layer0.7"}
NESTED_DEEP_STEM = {f"conv1.{i}": f"layer0.{i}" for i in (0, 1, 3, 4, 6)} | {"bn1": "layer0.7"}
PLAIN_STEM = {"conv1": "layer0.0", "bn1": "layer0.1"}
UNUSED = ("fc.", "classifier.")
PREFIXES = ("module.", "encoder.", "backbone.")
COUNTER = "num_batches_tracked"
STAGE = r"(?:layer|merge)([0-4])\."  # names of our encoders
TORCHVISION = "torchvision"  # as ``encoder.weights``: download by name
NAMES_THERE = {"vgg16": "vgg16_bn"}  # where torchvision's name is another


class WithEncoder(FewShotModel):
    """A model with one image encoder, ``self.encoder``, that starts from weights of the layouts known here."""

    downloads = (TORCHVISION,)
    encoder: Encoder

    def load_encoder(self, state: dict[str, Tensor], partial: bool) -> list[str]:
        """Fill the encoder from an ImageNet file, or from the encoder within a checkpoint of ours."""
        inside = {k: v for k, v in state.items() if k.startswith("encoder.")}
        return load_encoder(self.encoder, inside or state, partial)

    def download_encoder(self, name: str) -> dict[str, Tensor]:
        """Return torchvision's ImageNet weights of the encoder."""
        return download(self.settings.backbone())

    def describe_weights(self, state: dict[str, Tensor]) -> str:
        """Return the encoder in words."""
        return describe(state)


def download(backbone: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of a network.

    Raises:
        Mismatch: torchvision has none, or they could not be fetched.
    """
    name = NAMES_THERE.get(backbone, backbone)
    try:
        if backbone == "swin_b":
            raise ValueError("torchvision's Swin-B has another window and image size")
        weights = torchvision.models.get_model_weights(name)["IMAGENET1K_V1"]
        return weights.get_state_dict(progress=True, check_hash=True)
    except ValueError:
        raise Mismatch(
            f"model.encoder.weights = torchvision: torchvision has no weights of {name} as it is built here; "
            "give a file, or null"
        ) from None
    except (OSError, RuntimeError) as error:
        raise Mismatch(
            f"model.encoder.weights = torchvision: could not download {name} ({error}); "
            "bring the file to this machine and set model.encoder.weights to its path"
        ) from None


def load_encoder(encoder: Encoder, state: dict[str, Tensor], partial: bool) -> list[str]:
    """Fill ``encoder`` from ``state`` (float16 or float32); return the names of tensors that were not filled.

    Raises:
        Mismatch: another stem or depth, wrong shapes, values that are not finite, or - unless ``partial`` -
            tensors of the encoder that the file does not hold.
    """
    renamed = _rename(encoder, state)
    own = encoder.state_dict()
    given = {k: v for k, v in renamed.items() if k in own}
    foreign = [k for k in renamed if k not in own and re.match(STAGE, k) and _stage(k) <= encoder.last_stage]
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
    missing = [k for k in own if k not in given and not k.endswith(COUNTER)]
    begun = {_stage(k) for k in given}
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


def _stage(name: str) -> int:
    return int(re.match(STAGE, name)[1])


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
