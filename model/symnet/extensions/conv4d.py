"""Hyper-correlation squeeze: convolutions over query and support positions at once, in place of a mean over the object.

Idea: the pooled head forgets where inside the object a query position finds its like. Here the support's positions are
kept, on a grid of R x R cells, and a stack of 4D convolutions learns which arrangements of similarities mean a match.
A full 4D kernel of side 3 has 81 taps; the centre-pivot kernel keeps those where the query's offset or the support's
is zero, and so is a sum of two 2D convolutions:

    y(q, s) = sum_d W_query(d) x(q + d, s)  +  sum_d W_support(d) x(q, s + d)

Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, 2021 (arXiv 2104.01538). That network
squeezes the support's whole grid; the cells are ours, and make it affordable beside the rest of Sym-Net.

Memory in float32: n taps keep 4 n B h w R^2 bytes until they are squeezed, and a map inside the squeeze takes
4 B WIDTH h w (R / 2)^2. One episode with one shot at 473 px on ResNet-50 (n = 13, h = w = 60, R = 8) comes to 11.4 MiB
and 3.5 MiB; all taps at full resolution, 4 n (h w)^2 bytes, would be 643 MiB. Shots add nothing: they are averaged.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.symnet.intermediate_correlation import intermediate_correlation

SUPPORT_GRID = 8  # R, unless the settings give another
SMALL_GRID = 2  # side of the support's grid from which the rest is averaged
STRIDE = 2  # over the support's cells, of every convolution
KERNEL = 3
WIDTH = 16
NORM_EPS = 1e-8  # an object of one position makes cells of 1 / 50 of a cosine, whose variance the usual 1e-5 would hide


class Conv4dCorrelation(nn.Module):
    """Keep each tap's correlation four-dimensional, and squeeze each stage's taps to ``WIDTH`` maps of the query.

    Args:
        intermediate_counts: stage -> number of taps.
        support_grid: R, cells along each side of a support.
    """

    def __init__(self, intermediate_counts: dict[int, int], support_grid: int = SUPPORT_GRID):
        super().__init__()
        self.support_grid = support_grid
        self.out_counts = dict.fromkeys(intermediate_counts, WIDTH)
        self.stages = nn.ModuleDict({str(stage): _squeeze(n, support_grid) for stage, n in intermediate_counts.items()})

    def forward(self, query_bchw: Tensor, support_nchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
        """Return one tap's correlation on the reduced support grid, (B, h, w, R, R), float32, without gradient.

        A cell holds the mean over all its positions, those outside the mask as 0. So with n_c positions in cell c, m of
        all of them inside the mask, and one shot, the pooled head's map is sum_c n_c x_c / m.
        """
        weight_lr = _cell_weights(query_bchw.shape[-2:], self.support_grid, query_bchw.device)
        cells = self.support_grid**2
        out = intermediate_correlation(
            query_bchw, support_nchw, mask_bk1hw, lambda c, inside: c @ weight_lr[inside], cells
        )
        return out.unflatten(3, (self.support_grid, self.support_grid))

    def squeeze(self, taps: dict[int, list[Tensor]]) -> dict[int, Tensor]:
        """Return stage -> (B, WIDTH, h, w): 4D convolutions over a stage's taps, then the mean over what is left."""
        return {stage: self.stages[str(stage)](torch.stack(x, dim=1)).mean((4, 5)) for stage, x in taps.items()}


class CentrePivotConv4d(nn.Module):
    """Convolve (B, C, h, w, R, R) with a 4D kernel of which only the two crossing 2D planes exist.

    With a stride over the support, query planes are convolved at every ``stride``-th cell, the pivots. No bias: a norm
    follows.
    """

    def __init__(self, channels: int, width: int, stride: int):
        super().__init__()
        self.stride = stride
        self.over_query = nn.Conv2d(channels, width, KERNEL, padding=KERNEL // 2, bias=False)
        self.over_support = nn.Conv2d(channels, width, KERNEL, stride=stride, padding=KERNEL // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, h, w, r, r) with r = ceil(R / stride)."""
        by_pivot = x[..., :: self.stride, :: self.stride].permute(0, 4, 5, 1, 2, 3)  # (B, r, r, C, h, w)
        by_query = x.permute(0, 2, 3, 1, 4, 5)  # (B, h, w, C, R, R)
        over_query = _each_plane(self.over_query, by_pivot).permute(0, 3, 4, 5, 1, 2)
        over_support = _each_plane(self.over_support, by_query).permute(0, 3, 1, 2, 4, 5)
        return over_query + over_support


def _each_plane(convolve: nn.Conv2d, x: Tensor) -> Tensor:
    """Return (B, i, j, C', ...) of (B, i, j, C, ...): a 2D convolution of every plane by itself."""
    return convolve(x.flatten(0, 2)).unflatten(0, x.shape[:3])


def _squeeze(taps: int, support_grid: int) -> nn.Sequential:
    """Return 4D convolutions that take the support's grid down to ``SMALL_GRID``, each with norm and ReLU."""
    layers: list[nn.Module] = []
    channels = taps
    while support_grid > SMALL_GRID:
        layers += [CentrePivotConv4d(channels, WIDTH, STRIDE), nn.GroupNorm(1, WIDTH, NORM_EPS), nn.ReLU(inplace=True)]
        channels, support_grid = WIDTH, -(-support_grid // STRIDE)
    return nn.Sequential(*layers)


def _cell_weights(size: tuple[int, int], grid: int, device: torch.device) -> Tensor:
    """Return 1 / n_c where a position belongs to cell c of n_c positions, else 0, (h w, R R) float32.

    Row y belongs to row floor(y R / h) of cells; where h < R some cells have no position and stay 0.
    """
    rows, columns = (torch.arange(side, device=device) * grid // side for side in size)
    belongs = F.one_hot((rows.unsqueeze(1) * grid + columns).flatten(), grid**2).float()
    return belongs / belongs.sum(0).clamp(min=1)
