"""HSNet's hypercorrelation and squeeze: cosines at many depths, reduced over the support's positions.

A level stacks the correlations of its intermediate features as channels: C_l (B, n, h, w, h, w), the support's
dimensions first. A position outside the support's mask correlates with nothing, so C_l is 0 there; only the window
around the object is computed. 4D convolutions reduce the support's dimensions of each level, then mix the levels.
"""

from collections.abc import Sequence
from functools import partial, reduce
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from model.parts.conv4d import CentrePivotConv4d
from model.parts.with_encoder import HIGH, LOW, MID
from model.tensors.mask import Mask, shapes_are_fixed, touched
from model.tensors.ops import in_float32, resize
from model.tensors.windows import known_spans, window_around

WIDTHS = (16, 64, 128)  # channels after each convolution of a level
GROUPS = 4  # of every group norm, over channels and all four position dimensions
KERNELS = {HIGH: (3, 3, 3), MID: (5, 3, 3), LOW: (5, 5, 3)}  # level -> sides of its three kernels
STRIDES = {HIGH: (2, 2, 2), MID: (4, 2, 2), LOW: (4, 4, 2)}  # level -> their strides over the support
NORM_EPS = 1e-5  # added to the norm of a position
AGAIN = {"use_reentrant": False, "preserve_rng_state": False}  # how a step without random numbers is computed again


@in_float32
def unit(feature: Tensor, dim: int) -> Tensor:
    """Return features whose vectors along ``dim`` have length 1, in float32."""
    length = torch.linalg.vector_norm(feature, dim=dim, keepdim=True)
    return feature / (length + NORM_EPS)


def object_unit(support_nchw: Tensor, mask: Mask) -> Tensor:
    """Return the normalised features of n supports at the positions of their objects, (n, m, C) float32."""
    size = support_nchw.shape[-2:]
    positions = mask.positions(size, touched)
    feature = positions.padded(support_nchw.flatten(2).transpose(1, 2)).float()  # (n, m, C)
    share = positions.padded(mask.on(size).flatten(2).transpose(1, 2))  # of the object in a cell, (n, m, 1)
    return unit(feature * share, dim=2)  # cells in part on the object count in full


def row_numbers(mask: Mask, size: Sequence[int]) -> Tensor:
    """Return the number of each position's row in ``object_unit``, from 1, (n, h, w); 0 where there is no object."""
    is_row = touched(mask.on(size))
    if shapes_are_fixed():  # rows of all positions
        is_row = torch.ones_like(is_row)
    count = is_row.flatten(1).cumsum(1).view_as(is_row)
    return count * is_row


@torch.no_grad()
@in_float32
def clamped_cosines(query_bchw: Tensor, support_nlc: Tensor) -> Tensor:
    """Return max(0, q . s) of normalised features, (n B, l, h, w) float32, without gradient.

    The n B supports of B queries come shot after shot, each with l positions.
    """
    rows = support_nlc.unflatten(0, (-1, len(query_bchw)))  # (n, B, l, C)
    cosine = torch.matmul(rows, query_bchw.flatten(2)).flatten(0, 1)  # (n B, l, L)
    return cosine.relu_().unflatten(2, query_bchw.shape[-2:])


def _block(channels: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    """Return a 4D convolution, its norm and a ReLU."""
    convolution = CentrePivotConv4d(channels, width, kernel, stride, bias=True)
    return [convolution, nn.GroupNorm(GROUPS, width), nn.ReLU(inplace=True)]


class Squeeze(nn.Module):
    """Squeeze level 2, 3 or 4 of n intermediate features: C_l (B, n, h, w, h, w) to Z_l (B, 128, r, r, h, w)."""

    def __init__(self, level: int, count: int):
        super().__init__()
        self.blocks = nn.Sequential()
        channels = count
        for width, kernel, stride in zip(WIDTHS, KERNELS[level], STRIDES[level]):
            self.blocks.extend(_block(channels, width, kernel, stride))
            channels = width

    def forward(
        self, queries: list[Tensor], supports: list[Tensor], rows_nhw: Tensor, spans: list[list[int]]
    ) -> Tensor:
        """Return Z_l from the normalised features of each block: n of (B, C, h, w), and of objects n of (N, m, C).

        ``rows`` are the numbers of the rows at every position (``row_numbers``), ``spans`` those of the objects.

        The first convolution of C_l runs feature by feature; the backward pass computes it again. Outside the window
        around the object its input is 0 and its output the bias.
        """
        convolution = cast(CentrePivotConv4d, self.blocks[0])
        reach = convolution.over_support.kernel_size[0] // 2  # pivots that far before the object are in its cell
        size = queries[0].shape[-2:]
        window = window_around(spans, size, 0, reach, convolution.stride)
        row_of_each = window.crop(rows_nhw.unsqueeze(1))[:, 0]  # (N, r, r')
        batch = torch.arange(len(row_of_each), device=row_of_each.device).view(-1, 1)

        def of_feature(i: int, query: Tensor, support: Tensor) -> Tensor:
            rows = F.pad(support, (0, 0, 1, 0))  # the first is of no object
            in_window = rows[batch, row_of_each.flatten(1)]  # (N, r r', C)
            cosines = clamped_cosines(query, in_window).unflatten(1, row_of_each.shape[1:])  # (N, r, r', h, w)
            return convolution.convolve(cosines.unsqueeze(1), slice(i, i + 1))

        compute = partial(checkpoint, of_feature, **AGAIN) if torch.is_grad_enabled() else of_feature
        pairs = enumerate(zip(queries, supports, strict=True))
        parts = (compute(i, query, support) for i, (query, support) in pairs)
        bias = cast(Tensor, convolution.bias())
        total = convolution.with_bias(reduce(torch.add, parts))
        return self.blocks[1:](window.place(total, bias, size))


class Mix(nn.Sequential):
    """Merge the squeezed coarser level into a finer one: U(coarse) + fine, then three 4D blocks."""

    def __init__(self) -> None:
        super().__init__()
        width = WIDTHS[-1]
        for _ in range(3):
            self.extend(_block(width, width, kernel=3, stride=1))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:  # type: ignore[override]  # takes two maps
        """Return (B, 128, r, r, h, w); U resizes the query's dimensions of ``coarse``, for each support position."""
        resized = resize(coarse.flatten(0, 2), fine.shape[-2:])  # (B 128 r, r, h, w)
        mixed: Tensor = super().forward(resized.view_as(fine) + fine)  # type: ignore[no-untyped-call]
        return mixed


class HypercorrelationSqueeze(nn.Module):
    """All levels, from the deepest to the shallowest; ``counts`` are the levels' intermediate features."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        self.levels = nn.ModuleDict({str(level): Squeeze(level, counts[level]) for level in (HIGH, MID, LOW)})
        self.mix = nn.ModuleDict({str(level): Mix() for level in (MID, LOW)})

    def forward(
        self, query: dict[int, list[Tensor]], support: dict[int, list[Tensor]], rows: dict[int, Tensor]
    ) -> Tensor:
        """Return the mean over the support's positions, (B, 128, h_2, w_2), of level -> normalised features."""
        levels = (HIGH, MID, LOW)
        spans = known_spans([rows[level].unsqueeze(1) for level in levels])
        squeezed = {}  # Z_4, Z_3, Z_2
        for level, of_level in zip(levels, spans, strict=True):
            squeeze = self.levels[str(level)]
            squeezed[level] = squeeze(query[level], support[level], rows[level], of_level)
        x = self.mix[str(MID)](squeezed[HIGH], squeezed[MID])
        x = self.mix[str(LOW)](x, squeezed[LOW])
        return x.mean((2, 3))
