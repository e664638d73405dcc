"""1x1 convolutions in float32 by oneDNN: with one thread torch takes another way, on some processors half as fast."""

from typing import Any

import torch
from torch import Tensor


def takes_one_thread() -> bool:
    """Return whether oneDNN is there, and an operator computes in one thread."""
    return torch.get_num_threads() == 1 and torch.backends.mkldnn.is_available() and bool(torch.backends.mkldnn.enabled)


def pointwise(x: Tensor, weight: Tensor, bias: Tensor | None, stride: tuple[int, ...], groups: int) -> Tensor:
    """Return the convolution (B, O, H, W) of a map (B, C, H, W) with kernels (O, C, 1, 1), all float32 on a CPU."""
    if stride == (1, 1) and groups == 1:
        return _Pointwise.apply(x, weight, bias)
    return torch.mkldnn_convolution(x, weight, bias, (0, 0), stride, (1, 1), groups)


_PLAIN = (0, 0), (1, 1), (1, 1), 1  # padding, stride, dilation, groups


class _Pointwise(torch.autograd.Function):
    """A 1x1 convolution of stride 1; so is its input's gradient, with the kernels turned."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return torch.mkldnn_convolution(x, weight, bias, *_PLAIN)

    @staticmethod
    def backward(ctx: Any, given: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        x, weight = ctx.saved_tensors
        needs_x, *needs_others = ctx.needs_input_grad
        of_x = torch.mkldnn_convolution(given, weight.transpose(0, 1), None, *_PLAIN) if needs_x else None
        _, of_weight, of_bias = torch.ops.aten.convolution_backward(
            given, x, weight, [len(weight)], (1, 1), (0, 0), (1, 1), False, (0, 0), 1, [False, *needs_others]
        )
        return of_x, of_weight, of_bias
