"""The 3x3 convolution of a map beside the levels of its pooling pyramid (PSPNet), in a third of the plain form's time.

The plain form upsamples every level to the map's size, and convolves the concatenation: ``F.conv2d(torch.cat([x,
*upsampled], dim=1), weight, padding=1)``. The levels have 50 cells in all, so their half of the convolution is computed
on the cells: see ``_of_levels``.
"""

from collections.abc import Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn import functional as F

from model.tensors.frozen import made_once
from model.tensors.mask import Positions
from model.tensors.ops import resize

OFFSETS = (-1, 0, 1)  # of the kernel's rows and columns


def convolve(x_bchw: Tensor, levels: Sequence[Tensor], weight: Tensor) -> Tensor:
    """Return the convolution of [x; upsampled levels], (B, O, H, W).

    Args:
        x_bchw: the map.
        levels: its means over bins, (B, C / n, bins, bins) each of n.
        weight: (O, 2 C, 3, 3).
    """
    of_map, of_levels = _halves(weight)
    on_map = F.conv2d(x_bchw, of_map, padding=1)
    return on_map + _of_levels(levels, of_levels, x_bchw.shape[-2:])


def convolve_at(x_bchw: Tensor, levels: Sequence[Tensor], weight: Tensor, positions: Positions) -> Tensor:
    """Return the convolution at n positions alone, (n, O), image by image, at a cost that grows with n."""
    of_x, of_levels = _halves(weight)
    height, width = x_bchw.shape[-2:]
    x_bhwc = x_bchw.permute(0, 2, 3, 1)
    flat = positions.flat
    image = flat // (height * width)
    y = flat // width % height
    x = flat % width
    total = _of_levels(levels, of_levels, (height, width))[image, :, y, x].float()  # (n, O)
    cells = of_x.flatten(2).unbind(2)  # (O, C) of each
    for kernel, (down, right) in zip(cells, product(OFFSETS, repeat=2), strict=True):
        row = (y + down).clamp(0, height - 1)
        column = (x + right).clamp(0, width - 1)
        is_on_grid = (row == y + down) & (column == x + right)
        near = x_bhwc[image, row, column]  # (n, C)
        total += F.linear(near * is_on_grid.unsqueeze(1), kernel)
    return total


def _halves(weight: Tensor) -> Sequence[Tensor]:
    """Return a kernel's halves, for map and levels; of a frozen kernel dense copies, which are made once."""
    halves = weight.chunk(2, dim=1)

    def laid_out() -> Sequence[Tensor]:
        return halves if weight.requires_grad else [x.contiguous(memory_format=torch.channels_last) for x in halves]

    return made_once(laid_out, [weight], key="halves")


def _of_levels(levels: Sequence[Tensor], weight: Tensor, size: Sequence[int]) -> Tensor:
    """Return the 3x3 convolution of the upsampled levels, (B, O, H, W), without the upsampled maps.

    With U (cells, L) the bilinear weights and U_t their shift by the kernel's offset t, it is sum_t W_t cells U_t:
    two small products instead of a convolution over L positions.
    """
    mixed = []  # of each level (B, cells * offsets, O)
    shifts = []  # of each level (cells, offsets, L)
    weights = weight.split([level.shape[1] for level in levels], dim=1)
    for level, weight_oc33 in zip(levels, weights, strict=True):
        grid = level.shape[2:]
        one_hot = torch.eye(grid.numel(), device=level.device).view(-1, 1, *grid)
        upsampled = resize(one_hot, size)
        shifts.append(F.unfold(upsampled, 3, padding=1))
        kernels = weight_oc33.permute(0, 2, 3, 1).flatten(0, 2)  # (O * offsets, C), of a channels-last kernel no copy
        products = torch.bmm(kernels.expand(len(level), -1, -1), level.flatten(2))
        mixed.append(products.unflatten(1, (len(weight), -1)).permute(0, 3, 2, 1).flatten(1, 2))
    mixed_bko = torch.cat(mixed, dim=1)
    shifts_lk = torch.cat(shifts).flatten(0, 1).T.to(mixed_bko.dtype)
    shifts_blk = shifts_lk.expand(len(mixed_bko), -1, -1)
    product_blo = torch.bmm(shifts_blk, mixed_bko)
    return product_blo.transpose(1, 2).unflatten(2, tuple(size))
