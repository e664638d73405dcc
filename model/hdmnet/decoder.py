"""HDMNet's decoder: from matched levels to meta logits, by residual blocks without an activation inside.

Three convolutions, each followed by a fixed norm, are linear, so they run as one convolution that equals them.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.encoders.encoder import fold
from model.tensors.ops import in_float32

INNER = 256  # channels inside a block


class FixedNorm(nn.Module):
    """A learnable affine map of each channel: a batch norm whose statistics are never updated, not even in training.

    It is no subclass of torch's, so that ``train()`` and the conversion to SyncBatchNorm leave it alone.
    """

    running_mean: Tensor
    running_var: Tensor
    eps = 1e-5

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return the map with every channel scaled and shifted."""
        scale = self.weight * torch.rsqrt(self.running_var + self.eps)
        shift = self.bias - self.running_mean * scale
        scaled = x_bchw * scale.view(-1, 1, 1)
        return scaled + shift.view(-1, 1, 1)


class LinearBlock(nn.Module):
    """1x1, 3x3 and 1x1 convolution with ``INNER`` channels inside; a norm after the first two and optionally the last.

    The 3x3 convolution reads the first bias inside the map but not in its zero padding: the equivalent convolution
    therefore reads it from an additional channel of ones.
    """

    def __init__(self, channels: int, out: int, last_norm: bool):
        super().__init__()
        self.enter = nn.Conv2d(channels, INNER, 1)
        self.enter_norm = FixedNorm(INNER)
        self.mix = nn.Conv2d(INNER, INNER, 3, padding=1)
        self.mix_norm = FixedNorm(INNER)
        self.leave = nn.Conv2d(INNER, out, 1)
        self.leave_norm = FixedNorm(out) if last_norm else None

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return (B, out, H, W)."""
        enter_weight, enter_bias = fold(self.enter, self.enter_norm)
        mix_weight, mix_bias = fold(self.mix, self.mix_norm)
        leave = self.leave.parameters() if self.leave_norm is None else fold(self.leave, self.leave_norm)
        leave_weight, leave_bias = leave
        weight, bias = as_one(
            enter_mc11=enter_weight,
            enter_m=enter_bias,
            mix_mm33=mix_weight,
            mix_m=mix_bias,
            leave_om11=leave_weight,
            leave_o=leave_bias,
        )
        ones = torch.ones_like(x_bchw[:, :1])
        return F.conv2d(torch.cat([x_bchw, ones], dim=1), weight, bias, padding=self.mix.padding)


@in_float32
def as_one(
    *, enter_mc11: Tensor, enter_m: Tensor, mix_mm33: Tensor, mix_m: Tensor, leave_om11: Tensor, leave_o: Tensor
) -> tuple[Tensor, Tensor]:
    """Return weight (O, C + 1, 3, 3) and bias (O,) of one convolution that equals three in a row, given as theirs."""
    enter = torch.cat([enter_mc11[:, :, 0, 0], enter_m.unsqueeze(1)], dim=1)  # (M, C + 1)
    leave = leave_om11[:, :, 0, 0]
    mix_then_leave = torch.einsum("om,mnij->onij", leave, mix_mm33)
    weight = torch.einsum("onij,nc->ocij", mix_then_leave, enter)
    bias = leave @ mix_m + leave_o
    return weight, bias


class LinearDecoder(nn.Module):
    """Fuse levels from coarse to fine, then classify."""

    def __init__(self, channels: int, levels: int):
        super().__init__()
        self.refine = nn.ModuleList(LinearBlock(channels, channels, last_norm=True) for _ in range(levels))
        self.head = LinearBlock(channels, 2, last_norm=False)

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Return meta logits (B, 2, h, w) from the maps of every level (B, C, h_i, w_i), finest first."""
        *finer, (refine, coarsest) = zip(self.refine, levels, strict=True)
        x = F.relu(refine(coarsest))
        for refine, level in reversed(finer):
            x = F.interpolate(x, size=level.shape[-2:], mode="bilinear", align_corners=False)
            x = x + F.relu(refine(level + x))
        return self.head(x)
