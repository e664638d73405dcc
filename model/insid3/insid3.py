"""INSID3 (Cuttano et al., CVPR 2026): segment by whole clusters of patches, without training. See ``INSID3.forward``.

``segmentation.py`` has the steps in the paper's order.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from model.common.training_free import OnCells, TrainingFreeSettings
from model.contract import Episode, Output, Task, register
from model.insid3.segmentation import MAX_PATCHES, Patches, class_logits, positional_basis, segment

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


@register("insid3")
class INSID3(OnCells):
    """Candidates by two-way matching, clusters of the query, and a score for each. Nothing learns."""

    Settings = INSID3Settings
    title = "INSID3"
    replays = False  # steps depend on values
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
        query, shots = self.encode_classes(episodes)
        count, size = len(episodes), episodes[0].query.shape[-2:]
        basis = self._basis(size)
        # The class and the basis of each shot.
        known = [(c, self._basis(x.shape[-2:])) for c, episode in enumerate(episodes, 1) for x, _ in episode.shots(0)]
        with torch.autocast(query.device.type, enabled=False):
            references = []
            for item in range(len(query)):
                seen = [(c, Patches.of(f[item], own), y[item] == c) for (c, own), (f, y) in zip(known, shots)]
                references.append([[(x, mask) for n, x, mask in seen if n == c] for c in range(1, count + 1)])
            targets = [Patches.of(features, basis) for features in query]
            found = self._segment(targets, references, self.settings.tau, self.settings.merge)
        logits = torch.stack([class_logits(one.classes, count, size) for one in found])
        maps = [one.pictures(0) for one in found]
        presence_features = torch.stack(
            [torch.stack([one.presence_features(c) for c in range(count)]) for one in found]
        )
        return Output(
            logits, maps={n: torch.stack([m[n] for m in maps]) for n in maps[0]}, presence_features=presence_features
        )

    def _basis(self, size: Sequence[int]) -> Tensor | None:
        """Return the positional basis of images of a size (H, W), kept for the last sizes; None for r = 0."""
        if self.settings.components == 0:
            return None
        device = next(self.encoder.parameters()).device
        weights = tuple((tensor.data_ptr(), tensor._version) for tensor in self.encoder.state_dict().values())
        key = weights, tuple(size), torch.is_autocast_enabled(device.type)
        if key not in self._bases:
            black = torch.zeros(1, 3, *size, device=device)
            blank = self.compared(self.encode_images(self.encoder.normalise(black)))[0]
            found = positional_basis(blank, self.settings.components)
            self._bases = dict([*list(self._bases.items())[-(BASES_KEPT - 1) :], (key, found)])
        return self._bases[key]
