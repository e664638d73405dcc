"""HSNet's hypercorrelation: the cosine of every query position with every support position, at many depths.

A level stacks the correlations of its intermediate features, the taps, as channels: C_l (B, n, h, w, h, w), the
support's dimensions first. A position outside the support's mask correlates with nothing, so C_l is 0 there; only the
window around the object is computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import in_float32

NORM_EPS = 1e-5  # added to the norm of a position


@dataclass(frozen=True)
class Window:
    """Windows around the objects of B supports, one size for all, in cells of ``stride`` x ``stride`` positions.

    Cells (``top``, ``left``) to (``top + rows``, ``left + columns``) hold every position of the object, and every pivot
    of a convolution with this stride whose kernel reaches one.
    """

    corners: list[tuple[int, int]]  # top, left of each support, in cells
    rows: int  # in cells
    columns: int
    stride: int

    def crop(self, x_bchw: Tensor) -> Tensor:
        """Return each support's window, (B, C, rows * stride, columns * stride); beyond the grid it is 0."""
        padding = [(0, -side % self.stride) for side in reversed(x_bchw.shape[-2:])]
        padded = F.pad(x_bchw, [side for pair in padding for side in pair])
        tall, wide = self.rows * self.stride, self.columns * self.stride
        places = [(top * self.stride, left * self.stride) for top, left in self.corners]
        pieces = [x[:, top : top + tall, left : left + wide] for x, (top, left) in zip(padded, places)]
        return torch.stack(pieces)

    def place(self, x_bcrrhw: Tensor, background_c: Tensor, size: torch.Size) -> Tensor:
        """Return (B, C, *cells of the grid, h, w): a map for each cell of the windows, and ``background`` elsewhere."""
        cells = [-(-side // self.stride) for side in size]
        batch, maps = len(x_bcrrhw), x_bcrrhw.shape[-2:]
        out = background_c.to(x_bcrrhw.dtype).view(1, -1, 1, 1, 1, 1).repeat(batch, 1, *cells, *maps)
        for i, (top, left) in enumerate(self.corners):
            out[i, :, top : top + self.rows, left : left + self.columns] = x_bcrrhw[i]
        return out


def window_around(mask_b1hw: Tensor, kernel: int, stride: int) -> Window:
    """Return the windows around the positions where a mask on the grid is not 0."""
    spans = []
    for others in ((1, 3), (1, 2)):
        occupied = (mask_b1hw != 0).any(others[1]).any(others[0])  # (B, h) or (B, w)
        spans.append([_span(row, kernel, stride) for row in occupied])
    rows, columns = (max(end - begin for begin, end in span) for span in spans)
    limits = [-(-side // stride) - length for side, length in zip(mask_b1hw.shape[-2:], (rows, columns))]
    tops, lefts = ([min(begin, limit) for begin, _ in span] for span, limit in zip(spans, limits))
    return Window(list(zip(tops, lefts)), rows, columns, stride)


def _span(occupied: Tensor, kernel: int, stride: int) -> tuple[int, int]:
    """Return the first cell and the one after the last that are needed along one dimension; one cell for no object."""
    positions = occupied.nonzero()[:, 0].tolist()
    if not positions:
        return 0, 1
    last = min((positions[-1] + kernel // 2) // stride, (len(occupied) - 1) // stride)
    return positions[0] // stride, last + 1


@in_float32
def unit(tap_bchw: Tensor) -> Tensor:
    """Return a query's tap with every position normalised, in float32."""
    return tap_bchw / (torch.linalg.vector_norm(tap_bchw, dim=1, keepdim=True) + NORM_EPS)


@in_float32
def masked_unit(tap_bchw: Tensor, mask_b1hw: Tensor) -> Tensor:
    """Return a support's tap, masked, then normalised, in float32: a position in part on the object counts in full."""
    return unit(tap_bchw * mask_b1hw)


class Correlation(nn.Module):
    """The clamped cosines of one tap."""

    @torch.no_grad()
    @in_float32
    def forward(self, query_bchw: Tensor, support_bcrr: Tensor) -> Tensor:
        """Return max(0, q . s) of normalised taps, (B, 1, r, r', h, w) float32, without gradient."""
        cosine = torch.bmm(support_bcrr.flatten(2).transpose(1, 2), query_bchw.flatten(2))  # (B, r r', L)
        return cosine.relu_().view(len(cosine), 1, *support_bcrr.shape[-2:], *query_bchw.shape[-2:])
