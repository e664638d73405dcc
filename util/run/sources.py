"""Where the weights of an encoder come from, and what each source says of them: size, licence, training data."""

import re

from model.encoders.encoder import Encoder
from model.encoders.variant import IMAGENET, NOTHING

# Values of ``encoder.weights`` beside paths: download by torchvision, download by timm, read an installed package.
TORCHVISION, TORCHVISION_V2 = "torchvision", "torchvision_v2"
TIMM = "timm"
PACKAGE = "package"
RELEASES = {TORCHVISION: "IMAGENET1K_V1", TORCHVISION_V2: "IMAGENET1K_V2"}  # torchvision's names of its weights
SOURCES = (*RELEASES, TIMM, PACKAGE)
CHECKSUM = re.compile(r"-([0-9a-f]{8,64})\.(?:pth|safetensors)$")  # in names of torchvision's and timm's files


def size_and_licence(source: str, encoder: Encoder) -> str:
    """Say what a download of an encoder's weights brings."""
    size = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    return f"about {size / 1e6:.0f} MB, once; licence: {licence_of(source, encoder) or 'not known here'}"


def checksum_of(name: str) -> str | None:
    """Return the first digits of a file's SHA-256 that its name states; None if it states none."""
    match = CHECKSUM.search(name)
    return None if match is None else match[1]


def licence_of(source: str | None, encoder: Encoder) -> str | None:
    """Return the licence of an encoder's weights: of the package, or as timm states it; None: not known here."""
    if source is None:
        return None
    return "apache-2.0" if source == PACKAGE else encoder.licence


def pretraining_of(source: str | None, encoder: Encoder, stated: str | None = None) -> str | None:
    """Return the data that an encoder's first weights were trained on, for a file as ``stated``; None: not known."""
    if source is None:
        return NOTHING
    if source == PACKAGE or source in RELEASES:
        return IMAGENET
    if source == TIMM:
        return encoder.pretraining
    return stated or encoder.pretraining
