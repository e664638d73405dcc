"""Base classes of methods that learn nothing: they compare the outputs of stages of a frozen encoder."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from model.contract import WithEncoderSettings
from model.encoders.registry import spec_of
from model.episode import Episode, Output
from model.method import Maps, Method, Wants
from model.tensors.cells import on_cells, resize_cells
from model.tensors.ops import in_float32, resize

unit = in_float32(F.normalize)  # features of length 1


@dataclass
class TrainingFreeSettings(WithEncoderSettings):
    """The settings of every training-free method."""

    # Encoder stages whose features are compared, one or several: each at length 1, concatenated
    stage: int | list[int] = field(default=3, metadata={"low": 2, "high": 4, "length": (1, 3)})

    @property
    def stages(self) -> list[int]:
        """``stage`` as a list; the features of several stages are concatenated."""
        return self.stage if isinstance(self.stage, list) else [self.stage]


class TrainingFree(Method):
    """A method over the features of a frozen encoder. It learns nothing and needs no checkpoint."""

    learns = False
    any_size = True
    presence_of_maps = False
    settings: Any  # a TrainingFreeSettings

    @classmethod
    def wants_with(cls, settings: Any) -> Wants:
        """See :class:`Method`; the stages are those of the settings."""
        return replace(cls.wants, stages=tuple(settings.stages))

    def compared(self, maps: Maps) -> Tensor:
        """Return the maps of the chosen stages on the first one's grid, concatenated, (n, C, h, w)."""
        return on_first_grid([maps[stage] for stage in self.settings.stages])


class OnCells(TrainingFree):
    """A training-free method that compares unit features of cells, each of which stands for its part of the image.

    Masks and scores are resized without aligned corners: the cells tile the image, and no side is better than another.
    Such a method segments any number of classes at once; subclasses define ``predict_classes``.
    """

    size_rule = (1, 0)

    @classmethod
    def rule(cls, settings: Any) -> tuple[int, int]:
        """Return (step, rest) of the image sides: a transformer's patches tile them, convolutions take any."""
        spec = spec_of(settings.encoder.backbone)
        if spec.patch is not None:
            return spec.patch, 0
        return cls.size_rule if spec.any_size else super().rule(settings)

    def predict(self, maps: Maps, shots: Sequence[Any], episode: Episode) -> Output:
        """Return the output for one class, of ``predict_classes``."""
        return self.predict_classes(maps, [shots], [episode])

    def compared(self, maps: Maps) -> Tensor:
        """Return the unit features of all chosen stages, concatenated and again of length 1, (n, C, h, w) float32."""
        return unit(on_first_grid([unit(maps[stage], dim=1) for stage in self.settings.stages]), dim=1)


def on_first_grid(maps: Sequence[Tensor]) -> Tensor:
    """Return maps (n, C_i, h_i, w_i) concatenated on the first one's grid, (n, C, h, w)."""
    return torch.cat([resize(x, maps[0].shape[-2:]) for x in maps], dim=1)


def cells_of(mask_nhw: Tensor, size: Sequence[int]) -> Tensor:
    """Return the cells of binary masks (n, H, W) as ``mask_on_grid`` does, bool (n, h w)."""
    return torch.stack([mask_on_grid(mask, size).flatten() for mask in mask_nhw])


def mask_on_grid(mask_hw: Tensor, size: Sequence[int]) -> Tensor:
    """Return the cells of a binary mask (H, W), bool (h, w); none for an empty mask, else at least one.

    A cell counts where the mask, resized bilinearly without aligned corners, is above 1/2. If none does, the nearest
    pixel of each cell decides; if none does either, the cell that holds the mean position of the mask's pixels counts.
    """
    mask = mask_hw.bool()
    nearest = on_cells(mask, size)
    share = resize_cells(mask[None, None].float(), size)[0, 0]
    cells = share > 0.5
    # Nothing branches on a value, for which Python would wait for a GPU.
    has_mean = []  # of the grid's rows, of its columns: whether they hold the mean position
    for cells_of_axis, count in zip(size, (mask.sum(1).double(), mask.sum(0).double())):
        place = torch.arange(len(count), device=mask.device).double()
        mean = (count @ place) / count.sum().clamp(min=1)
        cell = (mean * cells_of_axis / len(count)).long()
        has_mean.append(torch.arange(cells_of_axis, device=mask.device) == cell)
    row, column = has_mean
    centre = row[:, None] & column & mask.any()
    fallback = torch.where(nearest.any(), nearest, centre)
    return torch.where(cells.any(), cells, fallback)
