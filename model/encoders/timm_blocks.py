"""Blocks of timm with frozen norms folded into their convolutions, and the gradient of depthwise ones on a CPU.

In training, folding saves a pass over the widest maps in each direction; EfficientNet-Lite0 takes half of the time.
For depthwise kernels of 5 x 5, a CPU computes the gradient of a convolution ten times as slowly as the convolution.
Where the kernels do not learn, the gradient of the input is computed as a convolution with the mirrored kernels.
"""

from typing import Any

import torch
from timm.layers import BatchNormAct2d, Conv2dSame
from timm.layers.conv2d_same import conv2d_same
from timm.layers.norm_act import SyncBatchNormAct
from timm.models import _efficientnet_blocks as blocks
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import folded, is_depthwise

# Blocks of timm's EfficientNets and MobileNets, with their pairs of a convolution and the norm after it.
PAIRS: dict[type[nn.Module], tuple[tuple[str, str], ...]] = {
    blocks.ConvBnAct: (("conv", "bn1"),),
    blocks.EdgeResidual: (("conv_exp", "bn1"), ("conv_pwl", "bn2")),
    blocks.DepthwiseSeparableConv: (("conv_dw", "bn1"), ("conv_pw", "bn2")),
    blocks.InvertedResidual: (("conv_pw", "bn1"), ("conv_dw", "bn2"), ("conv_pwl", "bn3")),
}
STEM = ("conv_stem", "bn1")


def fold_frozen_norms(net: nn.Module) -> None:
    """Let known blocks of timm compute convolution and norm together while the norm is frozen; names stay."""
    blocks_of_net = [module for module in net.modules() if type(module) in PAIRS]
    for block in blocks_of_net:
        for names in PAIRS[type(block)]:
            _fold_pair(block, *names)
    if blocks_of_net and all(hasattr(net, name) for name in STEM):
        _fold_pair(net, *STEM)


def _fold_pair(block: nn.Module, conv_name: str, norm_name: str) -> None:
    """Let a convolution of a block compute the norm after it, if both are of known kinds."""
    kinds: dict[type[nn.Module], type[nn.Module]] = {nn.Conv2d: FoldedConv, Conv2dSame: FoldedConvSame}
    conv = getattr(block, conv_name)
    norm = getattr(block, norm_name)
    if type(conv) in kinds and type(norm) is BatchNormAct2d and norm.track_running_stats:
        conv.__class__ = kinds[type(conv)]
        norm.__class__ = NormAfterFolded
        conv.__dict__["norm_after"] = (norm,)  # in a tuple: no submodule, so that the norm's tensors keep one name


class _ActivationAlone(nn.Module):
    act: nn.Module
    drop: nn.Module

    def forward(self, x: Tensor) -> Tensor:
        """Return the activation of x, and of the normalised x while the norm learns."""
        return super().forward(x) if self.training else self.act(self.drop(x))


class SyncNormAfterFolded(_ActivationAlone, SyncBatchNormAct):
    """``NormAfterFolded`` with statistics over all processes."""


class NormAfterFolded(_ActivationAlone, BatchNormAct2d):
    """A norm whose convolution computes it while it is frozen; the activation is left."""

    synchronised = SyncNormAfterFolded  # its class where processes train together


class FoldedConv(nn.Conv2d):
    """A convolution that also computes the frozen norm after it."""

    norm_after: tuple[NormAfterFolded]

    def forward(self, input: Tensor) -> Tensor:
        """Return the map (B, C, H, W), normalised while the norm is frozen."""
        if self.norm_after[0].training:
            return super().forward(input)
        weight, bias = folded(self, self.norm_after[0])
        learns = weight.requires_grad or bias.requires_grad
        if input.is_cpu and input.requires_grad and not learns and self._keeps_size() and is_depthwise(self):
            if torch.is_autocast_enabled("cpu"):
                input, weight, bias = (x.to(torch.get_autocast_dtype("cpu")) for x in (input, weight, bias))
            with torch.autocast("cpu", enabled=False):
                return _Depthwise.apply(input, weight, bias, self.dilation[0])
        return self._conv_forward(input, weight, bias)

    def _keeps_size(self) -> bool:
        """Return whether the map has the size of the input."""
        margin = self.dilation[0] * (self.kernel_size[0] // 2)
        return self.stride == (1, 1) and self.padding == (margin, margin)


class FoldedConvSame(FoldedConv, Conv2dSame):
    """The same for a convolution that pads its input as TensorFlow does."""

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        (high, wide), dilation = self.stride, self.dilation
        return conv2d_same(input, weight, bias, (high, wide), dilation=(dilation[0], dilation[1]), groups=self.groups)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution of stride 1 that keeps the size, with a gradient of its input alone."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:  # type: ignore[override]
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
