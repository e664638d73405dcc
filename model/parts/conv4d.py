"""The centre-pivot 4D convolution (HSNet): two crossing 2D convolutions, over the query and over the support.

A full 4D kernel of side k has k^4 weights. The centre-pivot kernel keeps those whose query or support offset is zero:

    y(q, s) = sum_d W_query(d) x(q + d, s)  +  sum_d W_support(d) x(q, s + d)

Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, ICCV 2021 (arXiv 2104.01538).

Tensors have the support's dimensions first, (B, C, R, R', h, w): a map of the query for every support position. Both
convolutions then read and write the same layout, and no permuted copy of a 4D tensor is made.
"""

from collections.abc import Iterator
from itertools import product
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Region: TypeAlias = tuple[slice, slice, slice, slice]  # of a tensor's or a kernel's first four dimensions
EVERYTHING = slice(None)


class CentrePivotConv4d(nn.Module):
    """Convolve (B, C, R, R', h, w) with a centre-pivot kernel.

    With a stride over the support, query maps are convolved at every ``stride``-th support position, the pivots.
    """

    def __init__(self, channels: int, width: int, kernel: int, stride: int, bias: bool):
        super().__init__()
        self.stride = stride
        self.over_query = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=bias)
        self.over_support = nn.Conv2d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, width, r, r', h, w) with r = ceil(R / stride)."""
        return self.with_bias(self.convolve(x, EVERYTHING))

    def convolve(self, x: Tensor, channels: slice) -> Tensor:
        """Return the part of the output, without bias, that some input channels contribute, which ``x`` holds alone."""
        # In the default layout, which the maps have: 3D convolutions take that of the kernel.
        of_query, of_support = (conv.weight[:, channels].contiguous() for conv in (self.over_query, self.over_support))
        pivots = x[:, :, :: self.stride, :: self.stride]
        padding = self.over_query.kernel_size[0] // 2
        planes = F.conv3d(pivots.flatten(2, 3), of_query.unsqueeze(2), padding=(0, padding, padding))
        out = planes.unflatten(2, pivots.shape[2:4])
        over_support = _OverSupport.apply if torch.is_grad_enabled() else _over_support  # exports trace the latter
        return out + over_support(x, of_support, self.stride)

    def with_bias(self, x: Tensor) -> Tensor:
        """Return a sum of parts with both biases added."""
        bias = self.bias()
        if bias is None:
            return x
        return x + bias.to(x.dtype).view(-1, 1, 1, 1, 1)

    def bias(self) -> Tensor | None:
        """Return the sum of both biases, (width,), the output where the input is 0; None without bias."""
        of_query = self.over_query.bias
        of_support = self.over_support.bias
        if of_query is None or of_support is None:
            return None
        return of_query + of_support


def _over_support(x: Tensor, weight_ockk: Tensor, stride: int) -> Tensor:
    """Return the convolution over the support, (B, O, r, r', h, w), without bias.

    For each pivot it is one matrix product with the positions that the kernel covers, which costs a CPU a fraction of
    convolutions of (h w) tiny images; padding costs nothing. A GPU, which waits longer for the launch of a product than
    for the product, is asked for the convolution.
    """
    if not x.is_cpu:
        margin = weight_ockk.shape[-1] // 2
        kernel = weight_ockk.unsqueeze(4)
        lines = F.conv3d(x.flatten(4), kernel, stride=(stride, stride, 1), padding=(margin, margin, 0))
        return lines.unflatten(4, x.shape[-2:])
    rows, columns = (-(-side // stride) for side in x.shape[2:4])
    maps = []  # (B, O, h w) of each pivot: the sum over channels and covered positions
    for region, part in _pivots(x, weight_ockk, stride):
        covered = x[region].flatten(1, 3).flatten(2)
        maps.append(weight_ockk[part].flatten(1) @ covered)
    out = torch.stack(maps, dim=2).unflatten(3, x.shape[-2:])
    return out.unflatten(2, (rows, columns))


class _OverSupport(torch.autograd.Function):
    """``_over_support`` with gradients; only the input is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_ockk: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight_ockk)
        ctx.stride = stride
        return _over_support(x, weight_ockk, stride)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        """Return the gradients of input and weight, computed in the precision of the weight."""
        x, weight = ctx.saved_tensors
        of_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight) if ctx.needs_input_grad[1] else None
        gradient = gradients[0].to(weight.dtype)
        of_pivots = gradient.flatten(2, 3).flatten(3).unbind(2)  # (B, O, L) each
        for (region, kernel), given in zip(_pivots(x, weight, ctx.stride), of_pivots, strict=True):
            if of_x is not None:
                products = weight[kernel].flatten(1).T @ given
                of_x[region] += products.view_as(x[region]).to(x.dtype)
            if of_weight is not None:
                covered = x[region].to(weight.dtype).flatten(1, 3).flatten(2)
                outer = given @ covered.transpose(1, 2)  # (B, O, C a b)
                of_weight[kernel] += outer.sum(0).view_as(of_weight[kernel])
        return of_x, of_weight, None


def _pivots(x: Tensor, weight_ockk: Tensor, stride: int) -> Iterator[tuple[Region, Region]]:
    """Yield, for every pivot, the region of the input that its kernel covers and that part of the kernel."""
    k = weight_ockk.shape[-1]
    margin = k // 2
    axes = []
    for side in x.shape[2:4]:
        pivots = []  # (positions on the grid, part of the kernel on them) of each
        for first in range(-margin, side - margin, stride):
            begin = max(first, 0)
            end = min(first + k, side)
            pivots.append((slice(begin, end), slice(begin - first, end - first)))
        axes.append(pivots)
    for (rows, part_rows), (columns, part_columns) in product(*axes):
        yield (EVERYTHING, EVERYTHING, rows, columns), (EVERYTHING, EVERYTHING, part_rows, part_columns)
