"""Small tensor operations that several methods share."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, reduce, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
FALLBACK = 12  # positions taken by rank where no position qualifies
BACKGROUND_CHANNEL, FOREGROUND_CHANNEL = 0, 1  # of two-class logits
SUPPORT_EPS = 5e-4  # added to the sum of a support's mask

P = ParamSpec("P")
R = TypeVar("R")


def normalise(image: Tensor, mean: Tensor | None = None, std: Tensor | None = None) -> Tensor:
    """Return an encoder's float32 input from RGB pixels 0..255 (..., 3, H, W); mean and std are (3, 1, 1), of 0..1."""
    if mean is None or std is None:
        mean, std = (torch.tensor(x, device=image.device).view(3, 1, 1) for x in (IMAGENET_MEAN, IMAGENET_STD))
    share = image.float() / 255
    return (share - mean) / std


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly with aligned corners; unchanged when it already has that size."""
    if tuple(x.shape[-2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=True)


def logits_at(logits_bnhw: Tensor, size: Sequence[int]) -> Tensor:
    """Resize logits (B, N, h, w) as ``resize`` does, in float32, channel after channel: losses read them like that.

    A GPU that needs their gradient is asked for two matrix products: the backward pass of its resizing adds the pixels
    of each cell one by one, which takes longer than many convolutions.
    """
    logits = logits_bnhw.float().contiguous()
    if logits.is_cpu or not logits.requires_grad or torch.compiler.is_compiling():
        return resize(logits, size)
    height, width = logits.shape[-2:]
    of_rows = _shares(height, size[0], logits.device)
    of_columns = _shares(width, size[1], logits.device)
    return of_rows @ (logits @ of_columns.T)


@cache
@torch.inference_mode(False)
@torch.no_grad()
def _shares(side: int, new: int, device: torch.device) -> Tensor:
    """Return the share of each of ``side`` positions in each of ``new`` ones after ``resize``, (new, side)."""
    line_of_each = torch.eye(side, device=device)[None, :, :, None]  # an image with one column for each position
    resized = resize(line_of_each, (new, 1))
    return resized[0, :, :, 0].T.contiguous()


def bin_means(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the means of (B, C, H, W) over the bins of ``F.adaptive_avg_pool2d``, (B, C, *size).

    On a GPU they are two matrix products, whose weights are powers of 2, exact in every precision: its kernel for
    channels-last maps takes longer than many convolutions. A compiled one takes no sizes that vary.
    """
    if x.is_cpu and not torch.compiler.is_compiling():
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    bins_of = _bins if torch.compiler.is_compiling() else _kept_bins
    channels, height, width = x.shape[1:]
    rows, of_rows = bins_of(size[0], height, x.device, x.dtype)
    columns, of_columns = bins_of(size[1], width, x.device, x.dtype)
    lines = columns @ x.permute(0, 2, 3, 1)  # sums of each row, (B, H, w, C)
    sums = (rows @ lines.flatten(2)).unflatten(2, (-1, channels))  # (B, h, w, C)
    factors = of_rows.view(-1, 1, 1) * of_columns.view(-1, 1)
    return (sums * factors).to(x.dtype).permute(0, 3, 1, 2)


def _bins(bins: int, side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return equal weights of a side's positions in each bin, (bins, side), and the factor that makes sums means."""
    position = torch.arange(side, device=device) * bins
    start = torch.arange(bins, device=device).unsqueeze(1) * side
    begins_before_end = position < start + side
    ends_after_start = position + bins > start
    inside = begins_before_end & ends_after_start
    count = inside.sum(1)
    power = torch.exp2(-count.to(torch.float32).log2().ceil())
    weights = inside * power.unsqueeze(1)
    factor = 1 / (count * power)
    return weights.to(dtype), factor.to(dtype)


@cache
@torch.inference_mode(False)
def _kept_bins(bins: int, side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _bins(bins, side, device, dtype)


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
    return _GradientInLayout.apply(x) if x.requires_grad else x


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


def mean_over(feature_bcl: Tensor, weight_bl: Tensor) -> Tensor:
    """Return the weighted mean of features over positions, (B, C)."""
    weight = weight_bl.to(feature_bcl.dtype)
    total = weight.unsqueeze(1) @ feature_bcl.transpose(1, 2)  # whose gradient is laid out position after position
    return total.squeeze(1) / weight.sum(1, keepdim=True)
