"""The features that a method's encoder returns, image by image or together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from model.common.with_encoder import WithEncoder
from model.encoders.features import Features


def on_encoded(network: WithEncoder, note: Callable[[Features], Any]) -> None:
    """Have ``note`` called with the features of all images that are asked for at a time."""
    encode_images = network.encode_images

    def noted(image_b3hw: Tensor, *give: Any) -> Features:
        out = encode_images(image_b3hw, *give)
        note(out)
        return out

    network.encode_images = noted  # type: ignore[method-assign]
