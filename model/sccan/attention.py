"""SCCAN's self-calibrated cross attention: query windows attend to themselves and to their aligned support window.

A grid of tokens is cut into square windows; every second block shifts them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import SUPPORT_EPS, in_float32, join_heads, split_heads

WINDOW = 8  # side of a window in tokens
SHIFT = WINDOW // 2  # rows and columns of zeros around a shifted grid, which then has one more window per axis
HEADS = 8
COSINE_EPS = 1e-7
MAX_WINDOWS = 16  # windows whose attention matrices exist at a time


def to_windows(x_bggc: Tensor, shifted: bool) -> Tensor:
    """Return a grid's windows, row by row, with their tokens, row by row: (B, N, T, C).

    A shifted grid is padded with zeros instead of wrapped around, and the padding's tokens take part like the others.
    """
    if shifted:
        x_bggc = F.pad(x_bggc, (0, 0, SHIFT, SHIFT, SHIFT, SHIFT))
    windows = x_bggc.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW))  # (B, rows, WINDOW, columns, WINDOW, C)
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


@torch.no_grad()
@in_float32
def aligned_windows(query_bntc: Tensor, support_bntc: Tensor, mask_bnt: Tensor) -> Tensor:
    """Return the nearest support window with foreground for every query window, (B, N) int64 (patch alignment).

    Windows compare by the query's mean, padding included, and the support's mean over its mask; 0 without foreground.
    """
    query = query_bntc.mean(2)  # (B, N, C)
    amount = mask_bnt.sum(2, keepdim=True)  # (B, N, 1)
    support = torch.einsum("bntc,bnt->bnc", support_bntc, mask_bnt) / (amount + SUPPORT_EPS)
    query, support = (F.normalize(x, dim=2, eps=COSINE_EPS) for x in (query, support))
    similarity = (1 + query @ support.transpose(1, 2)) / 2  # (B, N of the query, N of the support), in 0..1
    return (similarity * (amount > 0).transpose(1, 2)).argmax(2)


class WindowAttention(nn.Module):
    """Every window attends to itself and, where one is given, to an aligned support window, in one softmax."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)  # keys first, then values
        self.project = nn.Linear(width, width)

    def forward(self, x_bntc: Tensor, support_bntc: Tensor | None = None, aligned_bn: Tensor | None = None) -> Tensor:
        """Return attended values before the last projection, (B, N, T, C); ``aligned_bn`` selects windows, int64."""
        query, (key, value) = split_heads(self.query(x_bntc), HEADS), self._keys_values(x_bntc)
        if support_bntc is None or aligned_bn is None:
            return join_heads(F.scaled_dot_product_attention(query, key, value))
        rows = torch.arange(len(aligned_bn), device=aligned_bn.device).unsqueeze(1)
        support_key, support_value = (x[rows, aligned_bn] for x in self._keys_values(support_bntc))
        parts = query, key, value, support_key, support_value  # (B, N, heads, T, C / heads) each
        pieces = zip(*(x.split(MAX_WINDOWS, dim=1) for x in parts))
        return join_heads(torch.cat([_attend(*piece) for piece in pieces], dim=1))

    def _keys_values(self, x_bntc: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of every head, (B, N, heads, T, C / heads) each."""
        key, value = self.key_value(x_bntc).chunk(2, dim=3)
        return split_heads(key, HEADS), split_heads(value, HEADS)


@in_float32
def _attend(query: Tensor, key: Tensor, value: Tensor, support_key: Tensor, support_value: Tensor) -> Tensor:
    """Return softmax([q k / sqrt(d); cos(q, k of the support)]) [v; v of the support]."""
    own = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    query, support_key = (F.normalize(x, dim=-1, eps=COSINE_EPS) for x in (query, support_key))
    weight = torch.cat([own, query @ support_key.transpose(-1, -2)], dim=-1).softmax(-1)  # cosines as they are
    return weight @ torch.cat([value, support_value], dim=-2)


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


class CalibratedBlock(nn.Module):
    """One block: query and support share the norms, and both read the block's input.

    The ``last`` one skips the support's part, whose weights exist for checkpoints.
    """

    def __init__(self, width: int, shifted: bool, last: bool):
        super().__init__()
        self.shifted, self.last = shifted, last
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attend_query, self.mlp_query = WindowAttention(width), _mlp(width)
        self.attend_support, self.mlp_support = WindowAttention(width), _mlp(width)

    def forward(self, query: Tensor, support: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and support tokens, (B, G, G, C) float32 like the inputs; the mask is (B, G, G, 1)."""
        grids = self.norm1(query), self.norm1(support), mask
        of_query, of_support, amount = (to_windows(x, self.shifted) for x in grids)
        aligned = aligned_windows(of_query, of_support, amount.squeeze(3))
        query = self._finish(query, self.attend_query, self.mlp_query, of_query, of_support, aligned)
        if not self.last:
            support = self._finish(support, self.attend_support, self.mlp_support, of_support)
        return query, support

    def _finish(self, x: Tensor, attend: WindowAttention, mlp: nn.Module, *inputs: Tensor) -> Tensor:
        """Return the tokens after two residual steps, attention and MLP."""
        windows = attend(*inputs)  # (B, N, T, C), then the grid again, without the padding
        rows = math.isqrt(windows.shape[1])
        grid = windows.unflatten(2, (WINDOW, WINDOW)).unflatten(1, (rows, rows)).transpose(2, 3)
        grid = grid.flatten(3, 4).flatten(1, 2)
        x = x + attend.project(grid[:, SHIFT:-SHIFT, SHIFT:-SHIFT] if self.shifted else grid)
        return x + mlp(self.norm2(x))


class SelfCalibratedAttention(nn.Module):
    """The stack of blocks, with shifted windows in every second one, and the norm after it."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList(CalibratedBlock(width, i % 2 == 1, i == blocks - 1) for i in range(blocks))
        self.norm = nn.LayerNorm(width)

    def forward(self, query_bcgg: Tensor, support_bcgg: Tensor, mask_b1gg: Tensor) -> Tensor:
        """Return the query's map after all blocks and a ReLU, (B, C, G, G) float32."""
        query, support, mask = (x.permute(0, 2, 3, 1).float() for x in (query_bcgg, support_bcgg, mask_b1gg))
        for block in self.blocks:
            query, support = block(query, support, mask)
        return F.relu(self.norm(query)).permute(0, 3, 1, 2)
