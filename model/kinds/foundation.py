"""Methods over frozen networks of the optional package ``transformers``, which the caller passes to the method.

They see whole photos, one after the other, instead of an encoder's maps. Otherwise they are like every method:
``support`` makes a ``Shot``, and ``predict`` reads the shots of a class.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.contract import FewShotMethod, ModelSettings, Task, competing
from model.episode import Episode, Output, Shot

log = logging.getLogger("symnet")


@dataclass
class FoundationSettings(ModelSettings):
    """The settings of every method over such networks."""

    weights: list[str] = field(default_factory=list)  # of each network: a name on the hub, or a folder
    pretraining: str | None = None  # the data that the networks were trained on

    def encoder_name(self) -> str | None:
        """Return the networks as ``NET`` names them."""
        return ",".join(self.weights)

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if another number of networks is named than the method has."""
        usual = type(self)().weights
        if len(self.weights) == len(usual) and all(self.weights):
            return None
        names = ",".join(usual)
        return "weights", f"names {len(self.weights)} network(s); the method has those of NET={names}, in this order"


class Foundation(FewShotMethod, ABC):
    """A method over whole frozen networks from the hub or from folders (``pretrained_parts``); few learn anything."""

    learns = False
    any_size = True
    settings: Any  # a FoundationSettings
    networks: Any  # a ModuleList

    def __init__(self, settings: FoundationSettings, task: Task, *networks: nn.Module):
        super().__init__(settings, task)
        self.networks = nn.ModuleList(networks)

    def frozen(self) -> Iterator[nn.Module]:
        """Yield the networks."""
        yield from self.networks

    def stored_state(self) -> dict[str, Tensor]:
        """Return the tensors that learn; the networks' own come from ``weights``."""
        own = self.state_dict()
        return {name: tensor for name, tensor in own.items() if not name.startswith("networks.")}

    @abstractmethod
    def support(self, image_3hw: Tensor, label_hw: Tensor) -> Shot:
        """Return what is kept of one support, which shows the object."""

    @abstractmethod
    def see(self, image_3hw: Tensor) -> Any:
        """Return what ``predict`` reads of a query, once for all classes."""

    @abstractmethod
    def predict(self, query: Any, shots: Sequence[Any], episode: Episode, item: int) -> Output:
        """Return the output for one query, (1, 2, H, W), by the shots that show the object; there may be none."""

    def forward(self, episode: Episode) -> Output:
        """Return the output for B queries of one class; a method that learns overrides it for its training."""
        return self.forward_classes([episode])

    @torch.no_grad()
    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return the output for n classes that compete; see ``FewShotMethod.forward_classes``."""
        outputs = []  # of each query, of each class
        for item, image in enumerate(episodes[0].query):
            query = self.see(image)
            outputs.append([self._predict(query, episode, item) for episode in episodes])
        of_classes = [Output.join(of_class) for of_class in zip(*outputs, strict=True)]
        return of_classes[0] if len(episodes) == 1 else competing(of_classes)

    @torch.no_grad()
    def encode_supports(
        self,
        image_n3hw: Tensor,
        label_nhw: Tensor,
        maps: Sequence[Any] | None = None,
        modalities: Mapping[str, Tensor] | None = None,
    ) -> list[Shot]:
        """Return the shot of each of n supports, without a tensor where the object is not shown."""
        supports = zip(image_n3hw, label_nhw, strict=True)
        return [self.support(image, label) if (label == 1).any() else Shot() for image, label in supports]

    def _predict(self, query: Any, episode: Episode, item: int) -> Output:
        """Return the output for one query of an episode."""
        shots = [shot for shot in self._shots_of(episode, item) if shot.tensors()]
        if not shots:
            log.info("%s: no support shows a pixel of the object; the prediction is background", self.title)
        return self.predict(query, shots, episode, item)

    def _shots_of(self, episode: Episode, item: int) -> Sequence[Shot]:
        """Return the K shots of a query: those that the episode brings along, else of its supports."""
        supports = episode.supports_of(item)
        if episode.shots is None:
            return [shot for support in supports for shot in self.encode_supports(support.image, support.label)]
        first = item * len(supports) % len(episode.shots)  # K shots are those of all queries
        return episode.shots[first : first + len(supports)]


def as_uint8(image_3hw: Tensor) -> np.ndarray:
    """Return an image, RGB in 0..255, rounded, (H, W, 3) uint8."""
    rounded = image_3hw.float().round().clamp(0, 255).byte()
    return rounded.permute(1, 2, 0).cpu().numpy()
