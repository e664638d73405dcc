"""The one folding of batch norms into the convolutions before them: each pair is computed as one convolution.

A norm that keeps its statistics is linear, so y = W x + c and the norm (y - mean) / deviation * weight + bias after it
are the convolution by (weight / deviation) W with the bias (c - mean) weight / deviation + bias. The kernels stay the
parameters: every pass scales them anew, and gradients flow through the scale.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def folded(conv: nn.Conv2d, norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    """Return kernels and bias of a convolution and a norm with fixed statistics together."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = torch.rsqrt(norm.running_var + norm.eps)
    if norm.affine:
        scale = norm.weight * scale
    bias = -norm.running_mean * scale
    if conv.bias is not None:
        bias = bias + conv.bias * scale
    return conv.weight * scale.view(-1, 1, 1, 1), bias + norm.bias if norm.affine else bias


def conv_norm(conv: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return ``norm(conv(x))``; with fixed statistics as one convolution, which saves a pass over the map."""
    if norm.training or not norm.track_running_stats:
        return norm(conv(x))
    return conv._conv_forward(x, *folded(conv, norm))


def is_depthwise(module: nn.Module) -> bool:
    """Return whether a module is a convolution that keeps channels apart."""
    return isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1
