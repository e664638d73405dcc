"""A convolution and the norm after it as one convolution, while the norm keeps its statistics.

Such a norm is linear: y = W x + c and the norm (y - mean) / deviation * weight + bias after it are the convolution by
(weight / deviation) W with the bias (c - mean) weight / deviation + bias. The kernels stay the parameters: a pass
scales them anew, and gradients flow through the scale. On a GPU, where five small kernels a convolution cost as much as
the convolution, what is frozen is folded once.
"""

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

# Convolution -> (key of the numbers, kernels and bias, what they are made of); copies of a network have none.
_FOLDS: WeakKeyDictionary[nn.Module, tuple[Any, tuple[Tensor, Tensor], list[Tensor]]] = WeakKeyDictionary()


def folded(conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    """Return kernels and bias of a convolution and a norm with fixed statistics together.

    On a GPU they are kept as long as nothing that they are made of is written to or is another tensor. Kept sources
    hold their memory, so no other tensor can have their address. A norm in training writes its statistics without a new
    version, but counts its batches. A fused optimizer writes without a new version, too, so a pass with gradients keeps
    nothing of what learns.
    """
    batches = getattr(norm, "num_batches_tracked", None)
    statistics = [norm.running_mean, norm.running_var, batches]
    sources = [x for x in (conv.weight, conv.bias, norm.weight, norm.bias, *statistics) if x is not None]
    if not _may_be_kept(sources):
        _FOLDS.pop(conv, None)
        return _fold(conv, norm)
    key = norm.eps, *((x.data_ptr(), x._version, x.dtype, x.shape, x.stride()) for x in sources)
    kept = _FOLDS.get(conv)
    if kept is None or kept[0] != key:
        with torch.inference_mode(False), torch.no_grad():
            kept = _FOLDS[conv] = key, _fold(conv, norm), [x.detach() for x in sources]  # with memory and version
    return kept[1]


def _may_be_kept(sources: Sequence[Tensor]) -> bool:
    """Return whether what is made of tensors may serve later calls: on a GPU, outside compiling, and nothing learns."""
    if torch.compiler.is_compiling() or any(x.is_cpu or x.is_inference() for x in sources):
        return False
    return not (torch.is_grad_enabled() and any(x.requires_grad for x in sources))


def _fold(conv: nn.Conv2d, norm: Any) -> tuple[Tensor, Tensor]:
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias if conv.bias is None else torch.addcmul(norm.bias, conv.bias, scale)
    return conv.weight * scale.view(-1, 1, 1, 1), torch.addcmul(bias, norm.running_mean, scale, value=-1)


def conv_norm(conv: nn.Conv2d, norm: _BatchNorm, x: Tensor) -> Tensor:
    """Return ``norm(conv(x))``; with fixed statistics as one convolution, which saves a pass over the map."""
    if norm.training:
        return norm(conv(x))
    return conv._conv_forward(x, *folded(conv, norm))
