"""Fill an encoder from the weight layouts that circulate: torchvision's, the deep stem's, base-stage checkpoints."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.models import get_model_weights

from model.contract import Mismatch
from model.encoders.encoder import Encoder
from model.encoders.layouts import describe, foreign_to, missing_of, rename, stage_of
from model.encoders.registry import ENCODERS

TORCHVISION = "torchvision"  # as ``encoder.weights``: download by name
FIRST_RELEASE = "IMAGENET1K_V1"  # torchvision's name of the weights that are fetched


def download(backbone: str) -> dict[str, Tensor]:
    """Return torchvision's ImageNet weights of a network.

    Raises:
        Mismatch: torchvision has none, or they could not be fetched.
    """
    name = ENCODERS[backbone].torchvision
    if name is None:
        raise Mismatch(
            f"model.encoder.weights = torchvision: torchvision has no weights of {backbone} as it is built here; "
            "give a file, or null"
        )
    try:
        return get_model_weights(name)[FIRST_RELEASE].get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise Mismatch(
            f"model.encoder.weights = torchvision: could not download {name} ({error}); "
            "bring the file to this machine and set model.encoder.weights to its path"
        ) from None


def weights_url(backbone: str) -> str:
    """Return torchvision's address of the ImageNet weights of one of ``registry.downloadable()``."""
    return get_model_weights(ENCODERS[backbone].torchvision)[FIRST_RELEASE].url


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
