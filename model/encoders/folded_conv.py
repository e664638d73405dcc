"""Convolutions that compute the frozen norm after them, and the gradient of depthwise ones on a CPU.

In training, folding saves a pass over the widest maps in each direction; EfficientNet-Lite0 takes half of the time.
For depthwise kernels of 5 x 5, a CPU computes the gradient of a convolution ten times as slowly as the convolution.
Where the kernels do not learn, the gradient of the input is computed as a convolution with the mirrored kernels.

Under autocast these convolutions keep float32 where nothing learns, as in tests: bf16 moved the mIoU of five methods
over EfficientNet-Lite0 by 0.13 to 0.36.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import convolved, folded
from model.encoders.learning import is_depthwise
from model.tensors.frozen import half_type
from model.tensors.ops import in_float32


class _ActivationAlone(nn.Module):
    act: nn.Module
    drop: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of x, and of the normalised x while the norm learns."""
        normalised = super().forward(x) if self.training else x
        return self.act(self.drop(normalised))


class SyncNormAfterFolded(_ActivationAlone, nn.SyncBatchNorm):
    """``NormAfterFolded`` with statistics over all processes."""


class NormAfterFolded(_ActivationAlone, nn.BatchNorm2d):
    """A norm whose convolution computes it while it is frozen; the activation is left."""

    synchronised = SyncNormAfterFolded  # its class where processes train together


class FoldedConv(nn.Conv2d):
    """A convolution that also computes the frozen norm after it."""

    norm_after: tuple[NormAfterFolded]

    def forward(self, input: Tensor) -> Tensor:
        """Return the map (B, C, H, W), normalised while the norm is frozen."""
        is_test_in_half = half_type(input.device) is not None and not torch.is_grad_enabled()
        return self._map_in_float32(input) if is_test_in_half else self._map(input)

    def _map(self, input: Tensor) -> Tensor:
        """Return the map in the precision of the pass."""
        if self.norm_after[0].training:
            return super().forward(input)
        weight, bias = folded(self, self.norm_after[0])
        learns = weight.requires_grad or bias.requires_grad
        if input.is_cpu and input.requires_grad and not learns and self._keeps_size() and is_depthwise(self):
            with torch.autocast("cpu", enabled=False):
                return _Depthwise.apply(input.to(weight.dtype), weight, bias, self.dilation[0])
        return convolved(self, input, weight, bias)

    _map_in_float32 = in_float32(_map)

    def _keeps_size(self) -> bool:
        """Return whether the map has the size of the input."""
        margin = self.dilation[0] * (self.kernel_size[0] // 2)
        return self.stride == (1, 1) and self.padding == (margin, margin)


def place_norm(conv: nn.Module, norm: nn.Module) -> None:
    """Let a ``FoldedConv`` compute the norm; in a tuple it is no submodule, so that its tensors keep one name."""
    conv.__dict__["norm_after"] = (norm,)


class FoldedConvSame(FoldedConv):
    """The same for a convolution that pads its input as TensorFlow does, so that its map has ceil(side / stride)."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        margins: list[int] = []  # left, right, above, below
        for axis in (1, 0):
            side, stride = input.shape[2 + axis], self.stride[axis]
            reach = self.dilation[axis] * (self.kernel_size[axis] - 1) + 1
            last = (side - 1) // stride * stride  # position of the last cell
            margin = max(last + reach - side, 0)
            margins += [margin // 2, margin - margin // 2]
        padded = F.pad(input, margins)
        return F.conv2d(padded, weight, bias, self.stride, (0, 0), self.dilation, self.groups)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of stride 1 that keeps the size, with a gradient of its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(weight)
        ctx.dilation = dilation
        return _same_size(x, weight, bias, dilation)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (weight,) = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        return _same_size(grad, weight.flip(2, 3), None, ctx.dilation), None, None, None


def _same_size(x: Tensor, weight: Tensor, bias: Tensor | None, dilation: int) -> Tensor:
    padding = dilation * (weight.shape[-1] // 2)
    return F.conv2d(x, weight, bias, padding=padding, dilation=dilation, groups=len(weight))
