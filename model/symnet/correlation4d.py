"""Sym-Net's 4D correlation head, ``model.correlation: conv4d``: 4D convolutions over query and support positions."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.parts.conv4d import CentrePivotConv4d
from model.symnet.correlation import PooledCorrelation
from model.tensors.mask import Positions

SUPPORT_GRID = 8  # R, the side of the support's grid of cells
KERNEL = 3
STRIDE = 2  # over the support's cells
SQUEEZED = 16  # channels
NORM_EPS = 1e-8  # an object of one position gives cells of 1 / 50 of a cosine; 1e-5 would exceed their variance


class Conv4dCorrelation(PooledCorrelation):
    """Hyper-correlation squeeze: 4D convolutions over query and support positions, in place of a mean over the object.

    The pooled head discards the support position that a query position resembles. This head keeps correlations on
    R x R cells of the support, and two centre-pivot 4D convolutions for each stage (``model/parts/conv4d.py``) learn
    which arrangements of similarities mean a match. There is no bias in them, because a norm follows.

    Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, 2021 (arXiv 2104.01538). That network
    (``model/hsnet/``) squeezes the support's whole grid; the cells are an addition that keeps the cost small beside the
    rest of Sym-Net. In float32, n feature maps keep 4 n B h w R^2 bytes until they are squeezed: 11.4 MiB for an
    episode at 473 px on ResNet-50 (n = 13, h = w = 60), where the whole correlations, 4 n (h w)^2 bytes, would take
    643 MiB.
    """

    def __init__(self, intermediate_counts: dict[int, int]):
        super().__init__(intermediate_counts)
        self.out_counts = dict.fromkeys(intermediate_counts, SQUEEZED)
        self.stages = nn.ModuleDict()
        for stage, count in intermediate_counts.items():  # 8 x 8, 4 x 4 and 2 x 2 cells
            self.stages[str(stage)] = nn.Sequential(*_squeeze(count), *_squeeze(SQUEEZED))

    def weights(self, positions: Positions, size: Sequence[int]) -> Tensor:
        """Return the weight of each position in each of R x R cells, (n, m, R^2).

        A cell holds the mean over all its positions; positions outside the mask count as 0.
        """
        device = positions.inside.device
        rows, columns = (torch.arange(side, device=device) * SUPPORT_GRID // side for side in size)
        cell = (rows.unsqueeze(1) * SUPPORT_GRID + columns).flatten()  # of every position
        belongs = (cell.unsqueeze(1) == torch.arange(SUPPORT_GRID**2, device=device)).float()
        weight_lk = belongs / belongs.sum(0).clamp(min=1)
        return positions.padded(weight_lk.expand(len(positions.inside), -1, -1))

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, SQUEEZED, h, w): 4D convolutions over a stage's correlations, then a mean over cells."""
        squeezed = {}
        for stage, maps in kept.items():
            stacked = torch.stack(maps, dim=1).unflatten(2, (SUPPORT_GRID, SUPPORT_GRID))  # (B, n, R, R, h, w)
            squeezed[stage] = self.stages[str(stage)](stacked).mean((2, 3))
        return squeezed


def _squeeze(channels: int) -> list[nn.Module]:
    """Return a convolution that halves the support's grid, a norm over all channels and a ReLU."""
    convolution = CentrePivotConv4d(channels, SQUEEZED, KERNEL, STRIDE, bias=False)
    return [convolution, nn.GroupNorm(1, SQUEEZED, NORM_EPS), nn.ReLU(inplace=True)]
