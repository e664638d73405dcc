"""INSID3 (Cuttano et al., CVPR 2026): segment by whole clusters of patches, without training. See ``INSID3.forward``.

``segmentation.py`` has the steps in the paper's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from model.common.training_free import OnCells, TrainingFreeSettings
from model.common.with_encoder import Shot
from model.contract import Episode, Output, Task, register
from model.insid3.segmentation import MAX_PATCHES, Patches, Reference, class_logits, positional_basis, segment

BASES_KEPT = 16  # one for each size of images


@dataclass
class INSID3Settings(TrainingFreeSettings):
    """INSID3's settings; ``config/model/insid3.yaml`` explains them."""

    components: int = field(default=0, metadata={"low": 0})  # r
    tau: float = field(default=0.6, metadata={"low": -1, "high": 1})
    merge: float = field(default=0.2, metadata={"low": 0, "high": 1})

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if images of this side have too many patches, or too few for the basis."""
        side = self.encoder.grid(size, self.stages[0])
        patches = f"{size} px give {side} x {side} patches"
        if side**2 > MAX_PATCHES:
            return "stage", f"= {self.stage}: {patches}, and clustering takes at most {MAX_PATCHES}; lower data.size"
        if self.components > side**2 - 1:
            return "components", f"= {self.components}: {patches}, which have fewer directions; set fewer components"
        return None


class Support(NamedTuple):
    """A shot of B queries."""

    number: int  # of its class
    features: Tensor  # (B, C, h, w)
    label: Tensor  # (B, H, W), ``number`` on the object
    basis: Tensor | None  # of the positions in an image of its size


@register("insid3")
class INSID3(OnCells):
    """Candidates by two-way matching, clusters of the query, and a score for each. Nothing learns."""

    Settings = INSID3Settings
    title = "INSID3"
    never_compiled = ("_segment", "_basis")
    _segment = staticmethod(segment)
    cannot_export = "its clusters depend on the query's content"
    settings: INSID3Settings

    def __init__(self, settings: INSID3Settings, task: Task):
        super().__init__(settings, task)
        self._bases: dict[object, Tensor] = {}

    @torch.no_grad()
    def forward_classes(self, episodes: Sequence[Episode]) -> Output:
        """Return logits (B, N + 1, H, W): a_c - 1/2 for the mask of patches a_c of each class, resized.

        The background has the patches of no class. Clusters are found on the CPU, one query at a time.
        """
        query, shots = self.encode_classes(episodes)  # (B, C, h, w), and of all classes
        count = len(episodes)
        size = episodes[0].query.shape[-2:]
        basis = self._basis(size)
        supports = self._supports(episodes, shots)
        with torch.autocast(query.device.type, enabled=False):
            references = [self._references(supports, item, count) for item in range(len(query))]
            targets = [Patches.of(features, basis) for features in query]
            segmentations = self._segment(targets, references, self.settings.tau, self.settings.merge)

        logits = torch.stack([class_logits(x.classes, count, size) for x in segmentations])
        presence_features = [x.presence_features(c) for x in segmentations for c in range(count)]
        output = Output(logits, presence_features=torch.stack(presence_features).unflatten(0, (-1, count)))
        pictures = [x.pictures(0) for x in segmentations]
        for name in pictures[0]:
            output.maps[name] = torch.stack([maps[name] for maps in pictures])
        return output

    def _supports(self, episodes: Sequence[Episode], shots: Sequence[Shot]) -> list[Support]:
        """Return the shots of all classes, with the basis of their images' sizes."""
        images = [(number, image) for number, episode in enumerate(episodes, 1) for image, _ in episode.supports_of(0)]
        supports = []
        for (number, image), (features, label) in zip(images, shots):
            supports.append(Support(number, features, label, self._basis(image.shape[-2:])))
        return supports

    def _references(self, supports: Sequence[Support], item: int, classes: int) -> list[list[Reference]]:
        """Return the references of the query ``item``, class by class."""
        references: list[list[Reference]] = [[] for _ in range(classes)]
        for support in supports:
            patches = Patches.of(support.features[item], support.basis)
            is_object = support.label[item] == support.number
            references[support.number - 1].append((patches, is_object))
        return references

    def _basis(self, size: Sequence[int]) -> Tensor | None:
        """Return the positional basis of images of a size (H, W), kept for the last sizes; None for r = 0."""
        if self.settings.components == 0:
            return None
        device = next(self.encoder.parameters()).device
        weights = tuple((tensor.data_ptr(), tensor._version) for tensor in self.encoder.state_dict().values())
        key = weights, tuple(size), torch.is_autocast_enabled(device.type)
        if key not in self._bases:
            black = torch.zeros(1, 3, *size, device=device)
            features = self.encode_images(self.encoder.normalise(black))
            blank_chw = self.compared(features)[0]
            if len(self._bases) == BASES_KEPT:
                del self._bases[next(iter(self._bases))]  # the oldest
            self._bases[key] = positional_basis(blank_chw, self.settings.components)
        return self._bases[key]
