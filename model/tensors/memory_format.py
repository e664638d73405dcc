"""The memory format of maps (channels last, or torch's default), and that of their gradients."""

from typing import Any

import torch
from torch import Tensor


def memory_format_of(x: Tensor) -> torch.memory_format:
    """Return a map's memory format: channels last, or torch's default."""
    is_channels_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return torch.channels_last if is_channels_last else torch.contiguous_format


class _GradientInOwnFormat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.memory_format = memory_format_of(x)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=ctx.memory_format)


def with_gradient_in_own_format(x: Tensor) -> Tensor:
    """Return a map whose gradient is converted once to the map's own format, not in each layer that it passes."""
    return _GradientInOwnFormat.apply(x)
