"""Matrix products: of vectors with maps, and for resizing and pooling on a GPU, whose own kernels take longer."""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor
from torch.nn import functional as F


def resized_by_products(x_bnhw: Tensor, size: Sequence[int]) -> Tensor:
    """Resize bilinearly with aligned corners: a kernel's backward pass adds the pixels of each cell one by one."""
    height, width = x_bnhw.shape[-2:]
    of_rows = _shares(height, size[0], x_bnhw.device)
    of_columns = _shares(width, size[1], x_bnhw.device)
    return of_rows @ (x_bnhw @ of_columns.T)


def bin_means_by_products(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the means of (B, C, H, W) over bins, (B, C, *size); weights are powers of 2, exact in every precision."""
    channels, height, width = x.shape[1:]
    rows, of_rows = _bins(size[0], height, x.device, x.dtype)
    columns, of_columns = _bins(size[1], width, x.device, x.dtype)
    lines = columns @ x.permute(0, 2, 3, 1)  # sums of each row, (B, H, w, C)
    sums = (rows @ lines.flatten(2)).unflatten(2, (-1, channels))  # (B, h, w, C)
    factors = of_rows.view(-1, 1, 1) * of_columns.view(-1, 1)
    return (sums * factors).to(x.dtype).permute(0, 3, 1, 2)


@cache
@torch.inference_mode(False)
@torch.no_grad()
def _shares(side: int, new: int, device: torch.device) -> Tensor:
    """Return the share of each of ``side`` positions in each of ``new`` ones after the resizing, (new, side)."""
    line_of_each = torch.eye(side, device=device)[None, :, :, None]  # an image with one column for each position
    resized = F.interpolate(line_of_each, size=(new, 1), mode="bilinear", align_corners=True)
    return resized[0, :, :, 0].T.contiguous()


@cache
@torch.inference_mode(False)
def _bins(bins: int, side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return equal weights of a side's positions in each bin, (bins, side), and the factor that makes sums means."""
    position = torch.arange(side, device=device) * bins
    start = torch.arange(bins, device=device).unsqueeze(1) * side
    begins_before_end = position < start + side
    ends_after_start = position + bins > start
    inside = begins_before_end & ends_after_start
    count = inside.sum(1)
    power = torch.exp2(-count.to(torch.float32).log2().ceil())
    weights = inside * power.unsqueeze(1)
    factor = 1 / (count * power)
    return weights.to(dtype), factor.to(dtype)


def products_with_maps(rows_nmc: Tensor, maps_bchw: Tensor) -> Tensor:
    """Return the products of N = n B sets of m vectors with all L = h w positions of B maps, (N, m, L).

    The sets are those of the first map to the last, n times. For one set a convolution takes half the time of a matrix
    product on channels-last maps and several cores of a CPU.
    """
    if len(rows_nmc) == 1 and rows_nmc.shape[1]:
        kernels = rows_nmc[0, :, :, None, None]
        return F.conv2d(maps_bchw, kernels).flatten(2)
    rows = rows_nmc.unflatten(0, (-1, len(maps_bchw)))
    return torch.matmul(rows, maps_bchw.flatten(2)).flatten(0, 1)
