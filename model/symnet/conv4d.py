"""Hyper-correlation squeeze: 4D convolutions over query and support positions, in place of a mean over the object.

The pooled head discards the support position that a query position resembles. This head keeps the support's positions
on a grid of R x R cells, and a stack of centre-pivot 4D convolutions (``model/common/conv4d.py``) learns which
arrangements of similarities mean a match.

Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, 2021 (arXiv 2104.01538). That network
(``model/hsnet/``) squeezes the support's whole grid; the cells are an addition that keeps the cost small beside the
rest of Sym-Net. There is no bias in the convolutions, because a norm follows.

In float32, n feature maps keep 4 n B h w R^2 bytes until they are squeezed: 11.4 MiB for an episode at 473 px on
ResNet-50 (n = 13, h = w = 60, R = 8), where the whole correlations, 4 n (h w)^2 bytes, would take 643 MiB.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from model.common.conv4d import CentrePivotConv4d
from model.symnet.correlation import ObjectMap, PooledCorrelation, correlation

SUPPORT_GRID = 8  # default of R
SMALL_GRID = 2  # side of the support's grid at which convolutions stop and a mean follows
STRIDE = 2  # over the support's cells, of every convolution
WIDTH = 16
NORM_EPS = 1e-8  # an object of one position gives cells of 1 / 50 of a cosine; 1e-5 would exceed their variance


class Conv4dCorrelation(PooledCorrelation):
    """Keep correlations four-dimensional, on R x R cells of the support, and squeeze each stage to ``WIDTH`` maps."""

    def __init__(self, intermediate_counts: dict[int, int], support_grid: int = SUPPORT_GRID):
        super().__init__(intermediate_counts)
        self.support_grid = support_grid
        self.out_counts = dict.fromkeys(intermediate_counts, WIDTH)
        self.stages = nn.ModuleDict({str(stage): _squeeze(n, support_grid) for stage, n in intermediate_counts.items()})

    def forward(self, query_1chw: Tensor, shots: Sequence[ObjectMap]) -> Tensor:
        """Return the correlation on the reduced support grid, (1, h, w, R, R), float32, without gradient.

        A cell holds the mean over all its positions; positions outside the mask count as 0.
        """
        weight_lr = _cell_weights(query_1chw.shape[-2:], self.support_grid, query_1chw.device)
        cells = self.support_grid**2
        out = correlation(query_1chw, shots, lambda c, inside: c @ inside.rows(weight_lr[None])[0], cells)
        return out.unflatten(3, (self.support_grid, self.support_grid))

    def squeeze(self, kept: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, WIDTH, h, w): 4D convolutions over a stage's correlations, then a mean over cells."""
        # (B, n, R, R, h, w) of each stage.
        stacked = {stage: torch.stack(x, dim=1).permute(0, 1, 4, 5, 2, 3) for stage, x in kept.items()}
        return {stage: self.stages[str(stage)](x).mean((2, 3)) for stage, x in stacked.items()}


def _squeeze(channels: int, support_grid: int) -> nn.Sequential:
    """Return 4D convolutions that reduce the support's grid to ``SMALL_GRID``, each with norm and ReLU."""
    layers: list[nn.Module] = []
    while support_grid > SMALL_GRID:
        layers.append(CentrePivotConv4d(channels, WIDTH, 3, STRIDE, bias=False))
        layers += [nn.GroupNorm(1, WIDTH, NORM_EPS), nn.ReLU(inplace=True)]
        channels, support_grid = WIDTH, -(-support_grid // STRIDE)
    return nn.Sequential(*layers)


def _cell_weights(size: Sequence[int], grid: int, device: torch.device) -> Tensor:
    """Return 1 / n_c where a position belongs to cell c of n_c positions, else 0; (h w, R R) float32."""
    rows, columns = (torch.arange(side, device=device) * grid // side for side in size)
    cell = (rows.unsqueeze(1) * grid + columns).flatten()  # of every position
    belongs = (cell.unsqueeze(1) == torch.arange(grid**2, device=device)).float()
    return belongs / belongs.sum(0).clamp(min=1)
