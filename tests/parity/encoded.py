"""Types, kept outputs and encoder features that the hooks of all methods share."""

from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import numpy as np
from torch import Tensor, nn

from model.common.with_encoder import WithEncoder
from model.encoders.features import Features

Case, Seen = dict[str, np.ndarray], dict[str, Any]


def keep(seen: Seen, modules: dict[str, nn.Module]) -> None:
    """Have the outputs of modules kept in ``seen`` under their names, and their inputs under ``<name> in``."""
    for name, module in modules.items():
        module.register_forward_hook(
            lambda module, inputs, output, name=name: seen.update({name: output, f"{name} in": inputs})
        )


def on_calls(module: ModuleType, name: str, note: Callable[[tuple, Any], object]) -> None:
    """Have ``note`` called with arguments and result of a module's function until ``mock.patch.stopall``."""
    function = getattr(module, name)

    def noted(*inputs: Any) -> Any:
        output = function(*inputs)
        note(inputs, output)
        return output

    mock.patch.object(module, name, noted).start()


def on_encoded(network: WithEncoder, note: Callable[[Features], Any]) -> None:
    """Have ``note`` called with the features of all images that are asked for at a time."""
    encode_images = network.encode_images

    def noted(image_b3hw: Tensor, *give: Any) -> Features:
        out = encode_images(image_b3hw, *give)
        note(out)
        return out

    network.encode_images = noted  # type: ignore[method-assign]
