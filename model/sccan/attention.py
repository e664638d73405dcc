"""SCCAN's self-calibrated cross attention: query windows attend to themselves and to their aligned support window.

A grid of tokens is cut into square windows; every second block shifts them.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.tensors.ops import SUPPORT_EPS, in_float32, joined
from model.tensors.tokens import split_heads

WINDOW = 8  # side of a window in tokens
SHIFT = WINDOW // 2  # rows and columns of zeros around a shifted grid, which then has one more window per axis
HEADS = 8
COSINE_EPS = 1e-7
MAX_WINDOWS = 16  # windows whose attention matrices exist at a time on a CPU


def to_windows(x_bggc: Tensor, shifted: bool) -> Tensor:
    """Return a grid's windows, row by row, with their tokens, row by row: (B, N, T, C).

    A shifted grid is padded with zeros instead of wrapped around, and the padding's tokens take part like the others.
    """
    if shifted:
        x_bggc = F.pad(x_bggc, (0, 0, SHIFT, SHIFT, SHIFT, SHIFT))
    windows = x_bggc.unflatten(2, (-1, WINDOW)).unflatten(1, (-1, WINDOW))  # (B, rows, WINDOW, columns, WINDOW, C)
    return windows.transpose(2, 3).flatten(3, 4).flatten(1, 2)


def to_grid(heads_bnthd: Tensor, shifted: bool) -> Tensor:
    """Return the grid (B, G, G, C) of windows, without the padding: the inverse of ``to_windows``, and joins heads."""
    rows = math.isqrt(heads_bnthd.shape[1])
    windows = heads_bnthd.unflatten(2, (WINDOW, WINDOW)).unflatten(1, (rows, rows))
    grid = windows.transpose(2, 3).flatten(3, 4).flatten(1, 2).flatten(3)
    return grid[:, SHIFT:-SHIFT, SHIFT:-SHIFT] if shifted else grid


@torch.no_grad()
@in_float32
def aligned_windows(query_bntc: Tensor, support_bntc: Tensor, mask_bnt: Tensor) -> Tensor:
    """Return the nearest support window with foreground for every query window, (B, N) int64 (patch alignment).

    Windows compare by the query's mean, padding included, and the support's mean over its mask; 0 without foreground.
    """
    area = mask_bnt.sum(2, keepdim=True)  # (B, N, 1)
    query = query_bntc.mean(2)  # (B, N, C)
    total = torch.einsum("bntc,bnt->bnc", support_bntc, mask_bnt)
    support = total / (area + SUPPORT_EPS)
    query = F.normalize(query, dim=2, eps=COSINE_EPS)
    support = F.normalize(support, dim=2, eps=COSINE_EPS)
    similarity = (1 + query @ support.transpose(1, 2)) / 2  # (B, N of the query, N of the support), in 0..1
    has_foreground = (area > 0).transpose(1, 2)
    return (similarity * has_foreground).argmax(2)


class WindowAttention(nn.Module):
    """Every window attends to itself and, where one is given, to an aligned support window, in one softmax."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)  # keys first, then values
        self.project = nn.Linear(width, width)

    def forward(self, x_ntc: Tensor, aligned_ntc: Tensor | None = None) -> Tensor:
        """Return each head's values before the last projection, (N, T, heads, C / heads)."""
        query = split_heads(self.query(x_ntc), HEADS)
        if aligned_ntc is None:
            key, value = self._keys_values(x_ntc)
            attended = F.scaled_dot_product_attention(query, key, value)
        else:
            key, value = self._keys_values(torch.cat([x_ntc, aligned_ntc], dim=1))
            at_once = MAX_WINDOWS if query.is_cpu else len(query)
            pieces = zip(*(x.split(at_once) for x in (query, key, value)))
            attended = joined([_attend(*piece) for piece in pieces])
        return attended.transpose(1, 2)

    def _keys_values(self, x_nlc: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of every head, (N, heads, L, C / heads) each."""
        key, value = self.key_value(x_nlc).chunk(2, dim=2)
        return split_heads(key, HEADS), split_heads(value, HEADS)


def _attend(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax([q k / sqrt(d); cos(q, k of the support)]) v, of keys and values of a window and its support's."""
    query = query.contiguous()  # as the products need them
    key, support_key = key.contiguous().chunk(2, dim=2)
    sharpness = query.shape[-1] ** 0.5
    query_scores = (query / sharpness) @ key.transpose(-1, -2)
    query = F.normalize(query.float(), dim=-1, eps=COSINE_EPS)
    support_key = F.normalize(support_key.float(), dim=-1, eps=COSINE_EPS)
    support_scores = query @ support_key.transpose(-1, -2)  # cosines as they are
    weight = torch.cat([query_scores, support_scores], dim=-1).softmax(-1)
    return weight @ value


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


class CalibratedBlock(nn.Module):
    """One block: query and support share the norms, and both read the block's input.

    The ``last`` one skips the support's part, whose weights exist for checkpoints.
    """

    def __init__(self, width: int, shifted: bool, last: bool):
        super().__init__()
        self.shifted = shifted
        self.last = last
        self.norm1 = nn.LayerNorm(width)
        self.norm2 = nn.LayerNorm(width)
        self.attend_query = WindowAttention(width)
        self.mlp_query = _mlp(width)
        self.attend_support = WindowAttention(width)
        self.mlp_support = _mlp(width)

    def forward(self, query: Tensor, support: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and support tokens, (B, G, G, C) float32 like the inputs; the mask is (B, G, G, 1)."""
        query_windows = to_windows(self.norm1(query), self.shifted)
        support_windows = to_windows(self.norm1(support), self.shifted)
        mask_windows = to_windows(mask, self.shifted).squeeze(3)
        shape = batch, windows = query_windows.shape[:2]
        aligned_bn = aligned_windows(query_windows, support_windows, mask_windows)
        first = torch.arange(0, batch * windows, windows, device=aligned_bn.device)  # of each item's windows
        support_windows = support_windows.flatten(0, 1)
        number_bn = aligned_bn + first.unsqueeze(1)
        aligned = support_windows.index_select(0, number_bn.flatten())
        attended = self.attend_query(query_windows.flatten(0, 1), aligned)
        tokens = to_grid(attended.unflatten(0, shape), self.shifted)
        query = query + self.attend_query.project(tokens)
        query = query + self.mlp_query(self.norm2(query))
        if not self.last:
            attended = self.attend_support(support_windows)
            tokens = to_grid(attended.unflatten(0, shape), self.shifted)
            support = support + self.attend_support.project(tokens)
            support = support + self.mlp_support(self.norm2(support))
        return query, support


class SelfCalibratedAttention(nn.Module):
    """The stack of blocks, with shifted windows in every second one, and the norm after it."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        self.blocks = nn.ModuleList()
        for i in range(blocks):
            is_odd = i % 2 == 1
            self.blocks.append(CalibratedBlock(width, shifted=is_odd, last=i == blocks - 1))
        self.norm = nn.LayerNorm(width)

    def forward(self, query_bcgg: Tensor, support_bcgg: Tensor, mask_b1gg: Tensor) -> Tensor:
        """Return the query's map after all blocks and a ReLU, (B, C, G, G) float32."""
        maps = (query_bcgg, support_bcgg, mask_b1gg)
        query, support, mask = (x.permute(0, 2, 3, 1).float().contiguous() for x in maps)
        for block in self.blocks:
            query, support = block(query, support, mask)
        return F.relu(self.norm(query)).permute(0, 3, 1, 2)
