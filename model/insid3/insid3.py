"""INSID3 (Cuttano et al., CVPR 2026): segment by whole clusters of patches, without training.

Read ``INSID3.support`` and ``INSID3.predict_classes``. ``positions.py`` removes what features hold of positions,
``segmentation.py`` has the steps after it in the paper's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.contract import Episode, Output, Shot, Task, register
from model.insid3.positions import PositionalBases, debiased
from model.insid3.segmentation import MAX_PATCHES, Patches, Reference, class_logits, segment
from model.kinds.training_free import OnCells, TrainingFreeSettings, cells_of
from model.method import Maps
from model.tensors.mask import Mask


@dataclass
class INSID3Settings(TrainingFreeSettings):
    """INSID3's settings."""

    # r, directions of position that are removed from the features, fewer than channels and patches; 0: none, for
    # convolutions (published: 500, DINOv3 ViT-L/16 at 1024 px)
    components: int = field(default=0, metadata={"low": 0})
    tau: float = field(default=0.6, metadata={"low": -1, "high": 1})  # clusters grow down to this cosine of patches
    merge: float = field(default=0.2, metadata={"low": 0, "high": 1})  # least score of a cluster in the mask

    def problem(self, size: int) -> tuple[str, str] | None:
        """Return (key, problem and remedy) if images of this side have too many patches, or too few for the basis."""
        side = self.encoder.grid(size, self.stages[0])
        patches = f"{size} px give {side} x {side} patches"
        if side**2 > MAX_PATCHES:
            return "stage", f"= {self.stage}: {patches}, and clustering takes at most {MAX_PATCHES}; lower data.size"
        if self.components > side**2 - 1:
            return "components", f"= {self.components}: {patches}, which have fewer directions; set fewer components"
        return None


@dataclass
class INSID3Shot(Shot):
    """The L patches of n supports."""

    debiased: Tensor  # D(X), (n, L, C)
    inside: Tensor  # those of the object, (n, L) bool


@register("insid3")
class INSID3(OnCells):
    """Candidates by two-way matching, clusters of the query, and a score for each. Nothing learns."""

    Settings = INSID3Settings
    title = "INSID3"
    _segment = staticmethod(segment)
    settings: INSID3Settings

    def __init__(self, settings: INSID3Settings, task: Task):
        super().__init__(settings, task)
        self.bases = PositionalBases(settings.components)

    def support(self, maps: Maps, mask: Mask) -> INSID3Shot:
        """Return the patches of n supports, without their positions."""
        features = self.compared(maps)  # (n, C, h, w)
        basis = self._basis(maps, mask.label.shape[-2:])
        plain = features.flatten(2).transpose(1, 2).contiguous()
        return INSID3Shot(debiased(plain, basis), cells_of(mask.label == 1, features.shape[-2:]))

    def predict_classes(self, maps: Maps, shots: Sequence[Sequence[INSID3Shot]], episodes: Sequence[Episode]) -> Output:
        """Return logits (B, N + 1, H, W): a_c - 1/2 for the mask of patches a_c of each class, resized.

        The background has the patches of no class. Clusters are found on the CPU, one query at a time.
        """
        size = episodes[0].query.shape[-2:]
        basis = self._basis(maps, size)
        targets = [Patches.of(features, basis) for features in self.compared(maps)]
        references = [references_of(shots, item) for item in range(len(targets))]
        segmentations = self._segment(targets, references, self.settings.tau, self.settings.merge)

        count = len(episodes)
        output = Output(torch.stack([class_logits(x.classes, count, size) for x in segmentations]))
        presence = [x.presence_features(c) for x in segmentations for c in range(count)]
        output.presence_features = torch.stack(presence).unflatten(0, (-1, count))
        pictures = [x.pictures(0) for x in segmentations]
        for name in pictures[0]:
            output.pictures[name] = torch.stack([of_item[name] for of_item in pictures])
        return output

    def _basis(self, maps: Maps, size: Sequence[int]) -> Tensor | None:
        """Return the basis of the positions in the images of maps, of a size (H, W)."""

        def blank() -> Tensor:
            black = self.encoder.normalise(torch.zeros_like(maps.images[:1]))
            return self.compared(self.read_normalised(black))[0]

        return self.bases.of(size, self.encoder, blank)


def references_of(shots: Sequence[Sequence[INSID3Shot]], item: int) -> list[list[Reference]]:
    """Return the references of the query ``item``, class by class."""
    classes = []
    for of_class in shots:
        classes.append([Reference(shot.debiased[item], shot.inside[item]) for shot in of_class])
    return classes
