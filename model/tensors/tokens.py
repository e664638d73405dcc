"""Tokens of attention: heads apart and side by side, and linear layers over a grid of them."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F


def split_heads(x_lc: Tensor, heads: int) -> Tensor:
    """Return tokens (..., L, C) head by head, (..., heads, L, C / heads)."""
    return x_lc.unflatten(-1, (heads, -1)).transpose(-3, -2)


def join_heads(x_hld: Tensor) -> Tensor:
    """Return the heads' tokens (..., heads, L, C / heads) side by side, (..., L, C)."""
    return x_hld.transpose(-3, -2).flatten(-2)


def linear_over_map(x_blc: Tensor, size: Sequence[int], weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias, (B, L, C'), of a grid's L positions, as a convolution: faster on a CPU."""
    grid = x_blc.transpose(1, 2).unflatten(2, tuple(size))
    out = F.conv2d(grid, weight[:, :, None, None], bias)
    return out.flatten(2).transpose(1, 2).contiguous()
