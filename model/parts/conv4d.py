"""The centre-pivot 4D convolution (HSNet): two crossing 2D convolutions, over the query and over the support.

A full 4D kernel of side k has k^4 weights. The centre-pivot kernel keeps those whose query or support offset is zero:

    y(q, s) = sum_d W_query(d) x(q + d, s)  +  sum_d W_support(d) x(q, s + d)

Source: Min, Kang and Cho, Hypercorrelation Squeeze for Few-Shot Segmentation, ICCV 2021 (arXiv 2104.01538).

Tensors have the support's dimensions first, (B, C, R, R', h, w): a map of the query for every support position. Both
convolutions then read and write the same layout, and no permuted copy of a 4D tensor is made.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial, reduce
from itertools import product
from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.tensors.windows import window_around

Correlate: TypeAlias = Callable[[Tensor, Tensor], Tensor]  # from (B, C, h, w) and l positions (n, l, C) to (n, l, h, w)
Region: TypeAlias = tuple[slice, slice, slice, slice]  # of a tensor's or a kernel's first four dimensions
EVERYTHING = slice(None)
CHECKPOINTED = {"use_reentrant": False, "preserve_rng_state": False}  # of a step without random numbers


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

    def around_objects(
        self,
        correlate: Correlate,
        pairs: Iterable[tuple[Tensor, Tensor]],
        row_of: Tensor,
        spans: Sequence[Sequence[int]],
    ) -> Tensor:
        """Return the convolution, with bias, of correlations (n, t, R, R', h, w) that are 0 outside objects.

        Only the window around an object is computed, channel by channel, and again in the backward pass; elsewhere the
        output is the bias.

        Args:
            correlate: Makes the correlations of one channel.
            pairs: The features of each channel: the queries', (B, C, h, w), and those at objects' positions, (n, m, C).
            row_of: Each position's row in the latter, from 1, (n, R, R'); 0: no object.
            spans: The objects' first and last rows and columns.
        """
        # A kernel reaches the object from pivots up to ``reach`` after it, and before it from that of its first cell.
        reach = self.over_support.kernel_size[0] // 2
        grid = row_of.shape[1:]
        window = window_around(spans, grid, before=0, after=reach, stride=self.stride)
        row_in_window = window.crop(row_of.unsqueeze(1))[:, 0]  # (n, R, R') of the window
        batch = torch.arange(len(row_in_window), device=row_in_window.device).view(-1, 1)

        def of_channel(i: int, query: Tensor, support: Tensor) -> Tensor:
            rows = F.pad(support, (0, 0, 1, 0))  # row 0, of zeros, is of no object
            in_window = rows[batch, row_in_window.flatten(1)]  # (n, R R', C)
            correlation = correlate(query, in_window).unflatten(1, row_in_window.shape[1:])  # (n, R, R', h, w)
            return self.convolve(correlation.unsqueeze(1), slice(i, i + 1))  # (n, width, r, r', h, w), no bias yet

        compute = partial(checkpoint, of_channel, **CHECKPOINTED) if torch.is_grad_enabled() else of_channel
        parts = (compute(i, query, support) for i, (query, support) in enumerate(pairs))
        bias = cast(Tensor, self.bias())
        total = self.with_bias(reduce(torch.add, parts))
        return window.place(total, bias, grid)

    def convolve(self, x: Tensor, channels: slice) -> Tensor:
        """Return what some input channels add to the output, without bias; ``x`` holds these channels alone."""
        # In the default memory format, as the maps: the output of a 3D convolution has that of the kernel.
        of_query, of_support = (conv.weight[:, channels].contiguous() for conv in (self.over_query, self.over_support))
        pivots = x[:, :, :: self.stride, :: self.stride]
        padding = self.over_query.kernel_size[0] // 2
        planes = F.conv3d(pivots.flatten(2, 3), of_query.unsqueeze(2), padding=(0, padding, padding))
        out = planes.unflatten(2, pivots.shape[2:4])
        over_support = _OverSupport.apply if torch.is_grad_enabled() else _over_support  # the latter has no gradient
        return out + over_support(x, of_support, self.stride)

    def with_bias(self, x: Tensor) -> Tensor:
        """Return a sum of parts with both biases added."""
        bias = self.bias()
        return x if bias is None else x + bias.to(x.dtype).view(-1, 1, 1, 1, 1)

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
