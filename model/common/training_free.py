"""Methods that learn nothing: they compare stages of a frozen encoder. Their settings and their way to the features."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.ops import in_float32, on_cells, resize, resize_cells
from model.common.with_encoder import Shot, WithEncoder, WithEncoderSettings
from model.contract import Task
from model.encoders.features import Features
from model.encoders.registry import spec_of
from model.episode import Episode, Output

unit = in_float32(F.normalize)  # features of length 1


@dataclass
class TrainingFreeSettings(WithEncoderSettings):
    """The settings of every training-free method; ``config/model/prototype.yaml`` explains them."""

    # The encoder stages whose features are compared.
    stage: int | list[int] = field(default=3, metadata={"low": 2, "high": 4, "length": (1, 3)})

    @property
    def stages(self) -> list[int]:
        """``stage`` as a list; the features of several stages are concatenated."""
        return self.stage if isinstance(self.stage, list) else [self.stage]


class TrainingFree(WithEncoder):
    """A method over the features of a frozen encoder. It learns nothing and needs no checkpoint."""

    learns = False
    any_size = True
    settings: Any  # a TrainingFreeSettings

    def __init__(self, settings: TrainingFreeSettings, task: Task):
        self.last_stage = max(settings.stages)
        super().__init__(settings, task)
        self.freeze()

    def compared(self, features: Features) -> Tensor:
        """Return the maps of the chosen stages on the first one's grid, concatenated, (B, C, h, w)."""
        maps = [features.stage[stage] for stage in self.settings.stages]
        return torch.cat([resize(x, maps[0].shape[-2:]) for x in maps], dim=1)


class OnCells(TrainingFree):
    """A training-free method that compares unit features of cells, each of which stands for its part of the image.

    Masks and scores are resized without aligned corners: the cells tile the image, and no side is better than another.
    Such a method segments any number of classes at once; subclasses define ``forward_classes``.
    """

    size_rule = (1, 0)

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides: a transformer's patches tile them, convolutions take any."""
        spec = spec_of(settings.encoder.backbone)
        if spec.transformer:
            return spec.stride, 0
        return cls.size_rule if spec.any_size else super().rule(settings)

    def forward(self, episode: Episode) -> Output:
        """Return the output for one class, of ``forward_classes``."""
        return self.forward_classes([episode])

    def encode_classes(self, episodes: Sequence[Episode]) -> tuple[Tensor, list[Shot]]:
        """Return the queries' features (B, C, h, w), and all shots of N classes with labels 0, 1..N and 255."""
        shots: list[Shot] = []
        queries = []
        for number, episode in enumerate(self.sharing_queries(episodes), 1):
            query, shots_of_class = self.encode_each(episode, self.compared)
            queries.append(query)
            for feature, label in shots_of_class:
                shots.append((feature, label.masked_fill(label == 1, number)))
        return queries[0], shots

    def compared(self, features: Features) -> Tensor:
        """Return the unit features of all chosen stages, concatenated and again of length 1, (B, C, h, w) float32."""
        stages = {stage: unit(features.stage[stage], dim=1) for stage in self.settings.stages}
        return unit(super().compared(Features(stages, {})), dim=1)


def mask_on_grid(mask_hw: Tensor, size: Sequence[int]) -> Tensor:
    """Return the cells of a binary mask (H, W), bool (h, w); none for an empty mask, else at least one.

    A cell counts where the mask, resized bilinearly without aligned corners, is above 1/2. If none does, the nearest
    pixel of each cell decides; if none does either, the cell that holds the mean position of the mask's pixels counts.
    """
    mask = mask_hw.bool()
    sides = list(zip(size, mask.shape))
    nearest = on_cells(mask, size)
    cells = resize_cells(mask[None, None].float(), size)[0, 0] > 0.5
    # Nothing branches on a value, for which Python would wait for a GPU.
    counts = [mask.sum(other).double() for other in (1, 0)]  # of rows, of columns
    places = [torch.arange(full, device=mask.device).double() for _, full in sides]
    means = [(count @ place) / count.sum().clamp(min=1) for count, place in zip(counts, places)]  # y, x
    cell = [(mean * n / full).long() for mean, (n, full) in zip(means, sides)]
    row, column = (torch.arange(n, device=mask.device) == i for n, i in zip(size, cell))
    centre = row[:, None] & column & mask.any()
    return torch.where(cells.any(), cells, torch.where(nearest.any(), nearest, centre))
