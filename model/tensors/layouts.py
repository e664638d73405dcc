"""The order of a map's values in memory, and that of its gradient."""

from typing import Any

import torch
from torch import Tensor


def layout_of(x: Tensor) -> torch.memory_format:
    """Return the order of a map's values in memory: channels last, or torch's default."""
    is_channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if is_channels_last else torch.contiguous_format


class _GradientInLayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.layout = layout_of(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=ctx.layout)


def with_gradient_in_layout(x: Tensor) -> Tensor:
    """Return a map whose gradient is laid out once as the map itself, and not in each layer that it passes."""
    return _GradientInLayout.apply(x)
