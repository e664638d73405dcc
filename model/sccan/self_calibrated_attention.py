"""SCCAN's self-calibrated cross attention: query windows attend to themselves and to their aligned support window."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import in_float32
from model.sccan.patch_alignment import PatchAlignment
from model.sccan.window import from_windows, to_windows

HEADS = 8
COSINE_EPS = 1e-7
MAX_WINDOWS = 16  # windows whose attention matrices exist at a time


class WindowAttention(nn.Module):
    """The projections of one branch; subclasses define the keys of a window's queries."""

    def __init__(self, width: int):
        super().__init__()
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)  # keys first, then values
        self.project = nn.Linear(width, width)

    def queries(self, x_bntc: Tensor) -> Tensor:
        """Return the queries of every head, (B, N, heads, T, C / heads)."""
        return _heads(self.query(x_bntc))

    def keys_values(self, x_bntc: Tensor) -> tuple[Tensor, Tensor]:
        """Return keys and values of every head, (B, N, heads, T, C / heads) each."""
        key, value = self.key_value(x_bntc).chunk(2, dim=3)
        return _heads(key), _heads(value)


class SelfAttention(WindowAttention):
    """Every window attends to itself."""

    def forward(self, x_bntc: Tensor) -> Tensor:
        """Return the attended values, before the last projection, (B, N, T, C)."""
        return _together(F.scaled_dot_product_attention(self.queries(x_bntc), *self.keys_values(x_bntc)))


class CalibratedAttention(WindowAttention):
    """Every query window attends to itself and to one support window, in one softmax."""

    def forward(self, query_bntc: Tensor, support_bntc: Tensor, aligned_bn: Tensor) -> Tensor:
        """Return the values attended to by the query's tokens, before the last projection, (B, N, T, C).

        Keys and values of support windows are computed once and selected by index (``aligned_bn``, int64).
        """
        rows = torch.arange(len(aligned_bn), device=aligned_bn.device).unsqueeze(1)
        key, value = self.keys_values(query_bntc)
        support_key, support_value = (x[rows, aligned_bn] for x in self.keys_values(support_bntc))
        parts = (self.queries(query_bntc), key, value, support_key, support_value)  # (B, N, heads, T, C / heads) each
        pieces = zip(*(x.split(MAX_WINDOWS, dim=1) for x in parts))
        return _together(torch.cat([_attend(*piece) for piece in pieces], dim=1))


@in_float32
def _attend(query: Tensor, key: Tensor, value: Tensor, support_key: Tensor, support_value: Tensor) -> Tensor:
    """Return softmax([q k / sqrt(d); cos(q, k of the support)]) [v; v of the support]."""
    own = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
    query, support_key = (F.normalize(x, dim=-1, eps=COSINE_EPS) for x in (query, support_key))
    cosine = query @ support_key.transpose(-1, -2)  # no temperature
    weight = torch.cat([own, cosine], dim=-1).softmax(-1)
    return weight @ torch.cat([value, support_value], dim=-2)


def _heads(x_bntc: Tensor) -> Tensor:
    """Return (B, N, heads, T, C / heads)."""
    return x_bntc.unflatten(3, (HEADS, -1)).transpose(2, 3)


def _together(x_bnhtd: Tensor) -> Tensor:
    """Return the heads' tokens side by side, (B, N, T, C)."""
    return x_bnhtd.transpose(2, 3).flatten(3)


def _mlp(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))


class CalibratedBlock(nn.Module):
    """One block: query and support share the norms, and both read the block's input.

    Args:
        shifted: whether the windows are the shifted ones.
        last: skip the support's part, whose output would not be used; its weights exist for checkpoints.
    """

    def __init__(self, width: int, shifted: bool, last: bool):
        super().__init__()
        self.shifted, self.last = shifted, last
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.align = PatchAlignment()
        self.attend_query, self.mlp_query = CalibratedAttention(width), _mlp(width)
        self.attend_support, self.mlp_support = SelfAttention(width), _mlp(width)

    def forward(self, query: Tensor, support: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return query and support tokens, (B, G, G, C) float32 like the inputs; the mask is (B, G, G, 1)."""
        of_query, of_support, amount = (
            to_windows(x, self.shifted) for x in (self.norm1(query), self.norm1(support), mask)
        )
        aligned = self.align(of_query, of_support, amount.squeeze(3))
        query = self._finish(query, self.attend_query, self.mlp_query, of_query, of_support, aligned)
        if not self.last:
            support = self._finish(support, self.attend_support, self.mlp_support, of_support)
        return query, support

    def _finish(self, x: Tensor, attend: WindowAttention, mlp: nn.Module, *inputs: Tensor) -> Tensor:
        """Return the tokens after two residual steps, attention and MLP."""
        x = x + attend.project(from_windows(attend(*inputs), self.shifted))
        return x + mlp(self.norm2(x))


class SelfCalibratedAttention(nn.Module):
    """The stack of blocks, with shifted windows in every second one, and the norm after it."""

    def __init__(self, width: int, blocks: int):
        super().__init__()
        stack = [CalibratedBlock(width, shifted=i % 2 == 1, last=i == blocks - 1) for i in range(blocks)]
        self.blocks = nn.ModuleList(stack)
        self.norm = nn.LayerNorm(width)

    def forward(self, query_bcgg: Tensor, support_bcgg: Tensor, mask_b1gg: Tensor) -> Tensor:
        """Return the query's map after all blocks and a ReLU, (B, C, G, G) float32."""
        query, support, mask = (x.permute(0, 2, 3, 1).float() for x in (query_bcgg, support_bcgg, mask_b1gg))
        for block in self.blocks:
            query, support = block(query, support, mask)
        return F.relu(self.norm(query)).permute(0, 3, 1, 2)

    def idle(self) -> list[nn.Module]:
        """Return the modules whose output is not used: the support's part of the last block."""
        last = cast(CalibratedBlock, self.blocks[-1])
        return [last.attend_support, last.mlp_support]
