"""Fill an encoder from the weight layouts that circulate: torchvision's, the deep stem's, base-stage checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from model.contract import Mismatch
from model.encoders.encoder import Encoder
from model.encoders.layouts import describe, foreign_to, missing_of, rename, stage_of
from model.encoders.swin import SWIN

TORCHVISION = "torchvision"  # as ``encoder.weights``: download by name
NAMES_THERE = {"vgg16": "vgg16_bn"}  # where torchvision's name is another


def download(backbone: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of a network.

    Raises:
        Mismatch: torchvision has none, or they could not be fetched.
    """
    name = NAMES_THERE.get(backbone, backbone)
    try:
        if backbone == SWIN:
            raise ValueError("torchvision's Swin-B has another window and image size")
        weights = get_model_weights(name)["IMAGENET1K_V1"]
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
    renamed = rename(encoder, state)
    own = encoder.state_dict()
    given = {k: v for k, v in renamed.items() if k in own}
    foreign = foreign_to(encoder, renamed)
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
    missing, begun = missing_of(own, given)
    inside = [k for k in missing if stage_of(k) in begun]  # a partial file may stop after a stage, not inside one
    if inside:
        raise Mismatch(f"it lacks {inside[0]}: it holds {describe(state)}, expected {describe(encoder)}")
    if missing and not partial:
        raise Mismatch(
            f"{len(missing)} tensors are missing, from {missing[0]} on; "
            "bring a complete file or set model.encoder.partial: true to start them from random values"
        )
    encoder.load_state_dict({k: v.to(own[k].dtype) for k, v in given.items()}, strict=False)
    return missing
