"""Small tensor operations that several methods share."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import reduce, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from model.tensors.products import bin_means_by_products, resized_by_products

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FALLBACK = 12  # positions taken by rank where no position qualifies
SUPPORT_EPS = 5e-4  # added to the sum of a support's mask
FP16_SHARE = 2.0**-8  # of values whose sums would leave fp16's range; a power of 2 changes no other digit

P = ParamSpec("P")
R = TypeVar("R")


def normalise(image: Tensor, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    """Return an encoder's float32 input from RGB pixels 0..255 (..., 3, H, W); mean and std are (3, 1, 1), of 0..1."""
    if mean is None or std is None:
        mean, std = (torch.tensor(x, device=image.device).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    return (image.float() / 255 - mean) / std


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly with aligned corners; unchanged when it already has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def logits_at(logits_bnhw: Tensor, size: Sequence[int]) -> Tensor:
    """Resize logits (B, N, h, w) as ``resize`` does, in float32 and the default memory format, which losses read."""
    logits = logits_bnhw.float().contiguous()
    if logits.is_cpu or not logits.requires_grad:
        return resize(logits, size)
    return resized_by_products(logits, size)


def bin_means(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the means of (B, C, H, W) over the bins of ``F.adaptive_avg_pool2d``, (B, C, *size)."""
    if x.is_cpu:
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    return bin_means_by_products(x, size)


def in_float32(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function or method so that it computes in float32, also under autocast."""

    def float32(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) and value.is_floating_point() else value

    @wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        device = next(a.device for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        kind = "cpu" if device.type == "meta" else device.type
        named = {key: float32(value) for key, value in kwargs.items()}
        without_autocast = torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()
        with without_autocast:
            return function(*map(float32, args), **named)

    return wrapped


def foreground_mask(label: Tensor) -> Tensor:
    """Return the binary float32 mask (..., 1, H, W) of a label map (..., H, W); ignored pixels count as 0."""
    return (label == 1).float().unsqueeze(-3)


def background_mask(label: Tensor) -> Tensor:
    """Return the binary float32 mask (..., 1, H, W) of the object's background; ignored pixels count as 0."""
    return (label == 0).float().unsqueeze(-3)


def masked_mean(x_bchw: Tensor, mask_b1hw: Tensor, eps: float = SUPPORT_EPS) -> Tensor:
    """Return the mean of x over a (soft) mask, (B, C): sum(x m) / (sum(m) + eps)."""
    mask_b1l = mask_b1hw.flatten(2).to(x_bchw.dtype)
    x_blc = x_bchw.flatten(2).transpose(1, 2)
    total_bc = (mask_b1l @ x_blc).squeeze(1)
    area_b1 = mask_b1hw.sum((2, 3))
    return total_bc / (area_b1 + eps)


def mean_over_shots(x: Tensor, weight_bk: Tensor | None = None) -> Tensor:
    """Return sum_k w_k x_k, (B, ...), of values per shot (B, K, ...), with weights of sum 1; None: all alike.

    The methods fuse their shots here, but for HSNet's vote and what reads all positions of all shots together.
    """
    if weight_bk is None:
        return reduce(torch.add, x.unbind(1)) / x.shape[1]  # in the layout of the shots
    further = [1] * (x.ndim - 2)
    weighted = x * weight_bk.view(*weight_bk.shape, *further)
    return weighted.sum(1)


def by_shot(x: Tensor, batch: int) -> Tensor:
    """Return values of B supports of each of n shots, shot after shot, (n B, ...), as (B, n, ...)."""
    return x.unflatten(0, (-1, batch)).transpose(0, 1)


def joined(pieces: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return pieces as one tensor, a single piece without a copy."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=dim)


@in_float32
def weighted_sums(weight: Tensor, x: Tensor) -> Tensor:
    """Return the matrix product of weights and values, in float32 also under autocast."""
    return weight @ x


def min_max(x: Tensor, eps: float) -> Tensor:
    """Return x stretched to 0..1 over its last dimension: (x - min) / (max - min + eps)."""
    low = x.amin(-1, keepdim=True)
    high = x.amax(-1, keepdim=True)
    return (x - low) / (high - low + eps)


def choose(chosen_bl: Tensor, ranking_bl: Tensor, first_rank: int = 0) -> Tensor:
    """Return weights (B, L): 1 at the chosen positions, or at ``FALLBACK`` positions by rank where none is chosen.

    ``ranking_bl`` has the highest rank first; the fallback begins at ``first_rank``.
    """
    take = min(FALLBACK, ranking_bl.shape[1])
    chosen = chosen_bl.float()
    taken = ranking_bl[:, first_rank : first_rank + take]
    by_rank = torch.zeros_like(chosen).scatter(1, taken, 1.0)
    has_any = chosen_bl.any(1, keepdim=True)
    return torch.where(has_any, chosen, by_rank)


@in_float32
def mean_over(feature_bcl: Tensor, weight_bl: Tensor) -> Tensor:
    """Return the weighted mean of features over positions, (B, C)."""
    weight = weight_bl.to(feature_bcl.dtype)
    total = weight.unsqueeze(1) @ feature_bcl.transpose(1, 2)  # whose gradient is laid out position after position
    return total.squeeze(1) / weight.sum(1, keepdim=True)
