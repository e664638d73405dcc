"""Small tensor operations that several methods share."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import cache, reduce, wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SUPPORT_EPS = 5e-4  # added to the sum of a support's mask

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
    """Resize logits (B, N, h, w) as ``resize`` does, in float32, channel after channel: losses read them like that.

    A GPU that needs their gradient is asked for two matrix products: the backward pass of its resizing adds the pixels
    of each cell one by one, which takes longer than many convolutions.
    """
    logits = logits_bnhw.float().contiguous()
    if logits.is_cpu or not logits.requires_grad or torch.compiler.is_compiling():
        return resize(logits, size)
    of_rows, of_columns = (_shares(side, new, logits.device) for side, new in zip(logits.shape[-2:], size, strict=True))
    return of_rows @ (logits @ of_columns.T)


@cache
@torch.inference_mode(False)
@torch.no_grad()
def _shares(side: int, new: int, device: torch.device) -> Tensor:
    """Return the share of each of ``side`` positions in each of ``new`` ones after ``resize``, (new, side)."""
    line_of_each = torch.eye(side, device=device)[None, :, :, None]  # an image with one column for each position
    return resize(line_of_each, (new, 1))[0, :, :, 0].T.contiguous()


def bin_means(x: Tensor, size: Sequence[int]) -> Tensor:
    """Return the means of (B, C, H, W) over the bins of ``F.adaptive_avg_pool2d``, (B, C, *size).

    On a GPU they are two matrix products, whose weights are powers of 2, exact in every precision: its kernel for
    channels-last maps takes longer than many convolutions. A compiled one takes no sizes that vary.
    """
    if x.is_cpu and not torch.compiler.is_compiling():
        return F.adaptive_avg_pool2d(x, (size[0], size[1]))
    bins_of = _bins if torch.compiler.is_compiling() else _kept_bins
    (rows, of_rows), (columns, of_columns) = (
        bins_of(bins, side, x.device, x.dtype) for bins, side in zip(size, x.shape[-2:], strict=True)
    )
    sums = (rows @ (columns @ x.permute(0, 2, 3, 1)).flatten(2)).unflatten(2, (-1, x.shape[1]))  # (B, h, w, C)
    return (sums * (of_rows.view(-1, 1, 1) * of_columns.view(-1, 1))).to(x.dtype).permute(0, 3, 1, 2)


def _bins(bins: int, side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return equal weights of a side's positions in each bin, (bins, side), and the factor that makes sums means."""
    position = torch.arange(side, device=device) * bins
    start = torch.arange(bins, device=device).unsqueeze(1) * side
    inside = (position + bins > start) & (position < start + side)
    count = inside.sum(1)
    power = torch.exp2(-count.to(torch.float32).log2().ceil())
    return (inside * power.unsqueeze(1)).to(dtype), (1 / (count * power)).to(dtype)


@cache
@torch.inference_mode(False)
def _kept_bins(bins: int, side: int, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return _bins(bins, side, device, dtype)


def resize_cells(x: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, H, W) bilinearly without aligned corners: cells tile the image, each covers H / h pixels."""
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def on_cells(label: Tensor, grid: Sequence[int]) -> Tensor:
    """Return labels (..., H, W) on a grid (..., h, w), nearest pixels: cell i has row floor(i H / h)."""
    rows, columns = (torch.arange(n, device=label.device) * side // n for n, side in zip(grid, label.shape[-2:]))
    return label[..., rows[:, None], columns]


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
        with torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext():
            return function(*map(float32, args), **{key: float32(a) for key, a in kwargs.items()})

    return wrapped


def to_cpu(nested: Any) -> Any:
    """Return nested lists of one device's tensors on the CPU, in one transfer: each makes Python wait for a GPU."""
    flat: list[Tensor] = []

    def each(value: Any, change: Callable[[Tensor], Any]) -> Any:
        if isinstance(value, (list, tuple)):
            return [each(x, change) for x in value]
        return change(value) if isinstance(value, Tensor) else value

    each(nested, flat.append)
    if all(x.is_cpu for x in flat):
        return nested
    parts = [x.contiguous().flatten().view(torch.uint8) for x in flat]
    host = iter(torch.cat(parts).cpu().split([len(part) for part in parts]))
    return each(nested, lambda x: next(host).clone().view(x.dtype).view(x.shape))


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; a GPU fetches it from pinned memory, while Python goes on."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)


def foreground_mask(label: Tensor) -> Tensor:
    """Return the binary float32 mask (..., 1, H, W) of a label map (..., H, W); ignored pixels count as 0."""
    return (label == 1).float().unsqueeze(-3)


def background_mask(label: Tensor) -> Tensor:
    """Return the binary float32 mask (..., 1, H, W) of the object's background; ignored pixels count as 0."""
    return (label == 0).float().unsqueeze(-3)


def masked_mean(x_bchw: Tensor, mask_b1hw: Tensor, eps: float = SUPPORT_EPS) -> Tensor:
    """Return the mean of x over a (soft) mask, (B, C): sum(x m) / (sum(m) + eps)."""
    mask_b1l = mask_b1hw.flatten(2).to(x_bchw.dtype)
    total_bc = (mask_b1l @ x_bchw.flatten(2).transpose(1, 2)).squeeze(1)
    return total_bc / (mask_b1hw.sum((1, 2, 3)).unsqueeze(1) + eps)


def mean_over_shots(x: Tensor, weight_bk: Tensor | None = None) -> Tensor:
    """Return sum_k w_k x_k, (B, ...), of values per shot (B, K, ...), with weights of sum 1; None: all alike.

    The methods fuse their shots here, but for HSNet's vote and what reads all positions of all shots together.
    """
    if weight_bk is None:
        return reduce(torch.add, x.unbind(1)) / x.shape[1]  # in the layout of the shots
    return (x * weight_bk.view(*weight_bk.shape, *[1] * (x.ndim - 2))).sum(1)


def by_shot(x: Tensor, batch: int) -> Tensor:
    """Return values of B supports of each of n shots, shot after shot, (n B, ...), as (B, n, ...)."""
    return x.unflatten(0, (-1, batch)).transpose(0, 1)


def joined(pieces: Sequence[Tensor], dim: int = 0) -> Tensor:
    """Return pieces as one tensor, a single piece without a copy."""
    return pieces[0] if len(pieces) == 1 else torch.cat(list(pieces), dim=dim)


def min_max(x: Tensor, eps: float) -> Tensor:
    """Return x stretched to 0..1 over its last dimension: (x - min) / (max - min + eps)."""
    low, high = x.amin(-1, keepdim=True), x.amax(-1, keepdim=True)
    return (x - low) / (high - low + eps)


def split_heads(x_lc: Tensor, heads: int) -> Tensor:
    """Return tokens (..., L, C) head by head, (..., heads, L, C / heads)."""
    return x_lc.unflatten(-1, (heads, -1)).transpose(-3, -2)


def join_heads(x_hld: Tensor) -> Tensor:
    """Return the heads' tokens (..., heads, L, C / heads) side by side, (..., L, C)."""
    return x_hld.transpose(-3, -2).flatten(-2)


def linear_over_map(x_blc: Tensor, size: Sequence[int], weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return x weight^T + bias, (B, L, C'), of a grid's L positions, as a convolution: faster on a CPU."""
    grid = x_blc.transpose(1, 2).unflatten(2, tuple(size))
    return F.conv2d(grid, weight[:, :, None, None], bias).flatten(2).transpose(1, 2).contiguous()
