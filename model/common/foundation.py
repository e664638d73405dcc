"""Methods over frozen networks of the optional package ``transformers``, which whoever builds the method hands in."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from model.contract import FewShotModel, ModelSettings, Task

log = logging.getLogger("symnet")


@dataclass
class FoundationSettings(ModelSettings):
    """The settings of every method over such networks; ``config/model/sam3.yaml`` explains them."""

    weights: list[str] = field(default_factory=list)  # of each network: a name on the hub, or a folder
    pretraining: str | None = None  # the data that the networks were trained on

    def backbone(self) -> str | None:
        """Return the networks as ``NET`` names them."""
        return ",".join(self.weights)

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if another number of networks is named than the method has."""
        names = ",".join(type(self)().weights)
        fix = f"names {len(self.weights)} network(s); the method has those of NET={names}, in this order"
        return None if len(self.weights) == names.count(",") + 1 and all(self.weights) else ("weights", fix)


class Foundation(FewShotModel):
    """A method that learns nothing, over whole networks from the hub or from folders (``pretrained_parts``)."""

    learns = False
    any_size = True
    settings: Any  # a FoundationSettings
    networks: Any  # a ModuleList

    def __init__(self, settings: FoundationSettings, task: Task, *networks: nn.Module):
        super().__init__(settings, task)
        self.networks = nn.ModuleList(networks)
        self.freeze()

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the networks."""
        yield from self.networks

    def say_that_no_object_is_shown(self) -> None:
        """Log that an episode's supports are empty."""
        log.info("%s: no support shows a pixel of the object; the prediction is background", self.title)


def as_uint8(image_3hw: Tensor) -> np.ndarray:
    """Return an image, RGB in 0..255, rounded, (H, W, 3) uint8."""
    return image_3hw.float().round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
