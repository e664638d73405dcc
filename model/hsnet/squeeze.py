"""HSNet's hypercorrelation and squeeze: cosines at many depths, reduced over the support's positions.

A level stacks the correlations of its intermediate features as channels: C_l (B, n, h, w, h, w), the support's
dimensions first. A position outside the support's mask correlates with nothing, so C_l is 0 there; only the window
around the object is computed. 4D convolutions reduce the support's dimensions of each level, then mix the levels.
"""

from functools import partial, reduce
from itertools import pairwise
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from model.common.conv4d import CentrePivotConv4d
from model.common.fixed_shapes import Objects, OnGrid
from model.common.ops import in_float32, resize
from model.common.with_encoder import HIGH, LOW, MID

WIDTHS = (16, 64, 128)  # channels after each convolution of a level
GROUPS = 4  # of every group norm, over channels and all four position dimensions
KERNELS = {HIGH: (3, 3, 3), MID: (5, 3, 3), LOW: (5, 5, 3)}  # level -> sides of its three kernels
STRIDES = {HIGH: (2, 2, 2), MID: (4, 2, 2), LOW: (4, 4, 2)}  # level -> their strides over the support
NORM_EPS = 1e-5  # added to the norm of a position
AGAIN = {"use_reentrant": False, "preserve_rng_state": False}  # how a step without random numbers is computed again


@in_float32
def unit(feature_bchw: Tensor) -> Tensor:
    """Return a feature with every position normalised, in float32."""
    return feature_bchw / (torch.linalg.vector_norm(feature_bchw, dim=1, keepdim=True) + NORM_EPS)


@torch.no_grad()
@in_float32
def clamped_cosines(query_bchw: Tensor, support_nbcrr: Tensor) -> Tensor:
    """Return max(0, q . s) of normalised features, (n B, 1, r, r', h, w) float32, without gradient.

    The n B supports of B queries come shot after shot.
    """
    rows = support_nbcrr.flatten(2).transpose(1, 2).unflatten(0, (-1, len(query_bchw)))  # (n, B, r r', C)
    cosine = torch.matmul(rows, query_bchw.flatten(2)).flatten(0, 1)  # (n B, r r', L)
    return cosine.relu_().view(len(cosine), 1, *support_nbcrr.shape[-2:], *query_bchw.shape[-2:])


def _block(channels: int, width: int, kernel: int, stride: int) -> list[nn.Module]:
    """Return a 4D convolution, its norm and a ReLU."""
    convolution = CentrePivotConv4d(channels, width, kernel, stride, bias=True)
    return [convolution, nn.GroupNorm(GROUPS, width), nn.ReLU(inplace=True)]


class Squeeze(nn.Module):
    """Squeeze level 2, 3 or 4 of n intermediate features: C_l (B, n, h, w, h, w) to Z_l (B, 128, r, r, h, w)."""

    def __init__(self, level: int, count: int):
        super().__init__()
        self.blocks = nn.Sequential()
        for (channels, width), kernel, stride in zip(pairwise((count, *WIDTHS)), KERNELS[level], STRIDES[level]):
            self.blocks.extend(_block(channels, width, kernel, stride))

    def forward(self, queries: list[Tensor], supports: list[Tensor], objects: OnGrid) -> Tensor:
        """Return Z_l from the queries' normalised features and the supports', n of (B, C, h, w) and (N, C, h, w) each.

        The first convolution of C_l runs feature by feature; the backward pass computes it again. Outside the window
        around the object its input is 0 and its output the bias.
        """
        convolution = cast(CentrePivotConv4d, self.blocks[0])
        reach = convolution.over_support.kernel_size[0] // 2  # pivots that far before the object are in its cell
        window = objects.window(0, reach, convolution.stride)
        mask = window.crop(objects.mask)

        def of_feature(i: int, query: Tensor, support: Tensor) -> Tensor:
            masked = unit(support.float() * mask)  # cells in part on the object count in full
            return convolution.convolve(clamped_cosines(query, masked), slice(i, i + 1))

        compute = partial(checkpoint, of_feature, **AGAIN) if torch.is_grad_enabled() else of_feature
        pairs = enumerate(zip(queries, supports, strict=True))
        parts = (compute(i, query, window.crop(support)) for i, (query, support) in pairs)
        bias = cast(Tensor, convolution.bias())
        total = convolution.with_bias(reduce(torch.add, parts))
        return self.blocks[1:](window.place(total, bias, objects.mask.shape[-2:]))


class Mix(nn.Sequential):
    """Merge the squeezed coarser level into a finer one: U(coarse) + fine, then three 4D blocks."""

    def __init__(self):
        super().__init__()
        width = WIDTHS[-1]
        for _ in range(3):
            self.extend(_block(width, width, kernel=3, stride=1))

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:  # type: ignore[override]  # takes two maps
        """Return (B, 128, r, r, h, w); U resizes the query's dimensions of ``coarse``, for each support position."""
        resized = resize(coarse.flatten(0, 2), fine.shape[-2:])  # (B 128 r, r, h, w)
        return super().forward(resized.view_as(fine) + fine)


class HypercorrelationSqueeze(nn.Module):
    """All levels, from the deepest to the shallowest; ``counts`` are the levels' intermediate features."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        self.levels = nn.ModuleDict({str(level): Squeeze(level, counts[level]) for level in (HIGH, MID, LOW)})
        self.mix = nn.ModuleDict({str(level): Mix() for level in (MID, LOW)})

    def forward(self, query: dict[int, list[Tensor]], support: dict[int, list[Tensor]], objects: Objects) -> Tensor:
        """Return the mean over the support's positions, (B, 128, h_2, w_2), of level -> intermediate features.

        Those of the support are released as soon as they are squeezed.
        """
        grids = [maps[0].shape[-2:] for maps in support.values()]
        on_grids = dict(zip(support, objects.on_all(grids)))

        def squeezed(level: int) -> Tensor:
            return self.levels[str(level)](query[level], support.pop(level), on_grids[level])

        x = squeezed(HIGH)  # Z_4
        for level in (MID, LOW):
            x = self.mix[str(level)](x, squeezed(level))
        return x.mean((2, 3))
