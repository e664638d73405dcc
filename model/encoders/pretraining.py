"""The data that an encoder's first weights were trained on, which decides what its results may be compared with."""

from __future__ import annotations

import re

IMAGENET = "ImageNet-1k"
NOTHING = "none (random values)"
SELF_SUPERVISED = "self-supervised"
# Parts of timm's tags of weights -> the data in words, in the order in which they are named.
DATA = {
    "lvd1689m": "LVD-1689M",
    "lvd142m": "LVD-142M",
    "sat493m": "SAT-493M",
    "sa1b": "SA-1B (SAM)",
    "ig1b": "Instagram-1B",
    "seer": "Instagram-1B",
    "swag": "Instagram-3.6B",
    "jft": "JFT-300M",
    "m38m": "Merged-38M",
    "yfcc100m": "YFCC-100M",
    "in22k": "ImageNet-22k",
    "in21k": "ImageNet-21k",
    "in12k": "ImageNet-12k",
    "in1k": IMAGENET,
}
IMAGE_TEXT = "image-text pairs (CLIP)"
IMAGE_TEXT_PARTS = ("openai", "laion", "datacomp", "dfn", "merged2b", "metaclip", "webli", "clip", "siglip")
SELF_SUPERVISED_PARTS = ("lvd", "sat493m", "dino", "mae", "mim", "ijepa", "fcmae", "seer")
ON_IMAGENET = ("dino", "mae", "fcmae")  # weights of these names have no other part where they saw ImageNet-1k alone


def pretraining_of_tag(architecture: str, tag: str) -> str | None:
    """Return the data that weights of timm were trained on; None: their tag does not say.

    Args:
        architecture: timm's name without the tag.
        tag: the part after the dot, such as ``lvd142m`` or ``augreg_in21k_ft_in1k``.
    """
    parts = re.split(r"[_.\-]", tag.lower())
    data = [words for part, words in DATA.items() if part in parts]
    if any(part.startswith(IMAGE_TEXT_PARTS) for part in parts) or "clip" in architecture:
        data.insert(0, IMAGE_TEXT)
    if architecture.startswith(("samvit", "sam2")):
        data.append(DATA["sa1b"])
    if not data and any(part in ON_IMAGENET for part in parts):
        data.append(IMAGENET)
    alone = any(part.startswith(SELF_SUPERVISED_PARTS) for part in parts) and "ft" not in parts
    return ", ".join(dict.fromkeys([*data, *([SELF_SUPERVISED] if alone else [])])) or None
