"""The decoder from stacks of soft masks to logits, helped by encoder features at strides 8 and 4 (DCAMA)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import resize

WIDTH = 128  # channels of the mixed masks
STEPS = (16, 64, WIDTH)  # channels on the way there
KERNELS = {4: (3, 3, 3), 3: (5, 3, 3), 2: (5, 5, 3)}  # stage -> of its stack's three convolutions
GROUPS = 4  # of every group norm
MIXER = (128, 64, 64, 16, 16, 2)  # channels of the three mixers' convolutions


class MaskDecoder(nn.Module):
    """Encode each stage's stack, mix from stage 4 up to stage 2, then grow to the image's size.

    Args:
        intermediate_counts: stage -> soft masks in its stack.
        channels: stage -> channels of the encoder's taps.
    """

    def __init__(self, intermediate_counts: dict[int, int], channels: dict[int, int]):
        super().__init__()
        self.enter = nn.ModuleDict(
            {str(i): _block(intermediate_counts[i], STEPS, kernels) for i, kernels in KERNELS.items()}
        )
        self.merge = nn.ModuleDict({str(i): _block(WIDTH, (WIDTH,) * 3, KERNELS[4]) for i in (3, 2)})
        skips = 2 * channels[2] + 2 * channels[1]
        self.mixer1 = SkipMixer(*_convolutions(WIDTH + skips, *MIXER[:2]), nn.ReLU(inplace=True))
        self.mixer2 = nn.Sequential(*_convolutions(*MIXER[1:4]), nn.ReLU(inplace=True))
        self.mixer3 = nn.Sequential(*_convolutions(*MIXER[3:]))

    def forward(self, masks: dict[int, Tensor], skips: dict[int, Tensor], size: tuple[int, int]) -> Tensor:
        """Return logits (B, 2, *size).

        Args:
            masks: stage 2, 3, 4 -> (B, n, h, w).
            skips: stage 1, 2 -> features of the query and of its supports, (B, 2 C, h, w).
        """
        x = self.enter["4"](masks[4])
        for stage in (3, 2):
            x = self.merge[str(stage)](resize(x, masks[stage].shape[-2:]) + self.enter[str(stage)](masks[stage]))
        x = self.mixer1(torch.cat([x, skips[2]], dim=1), skips[1])  # at stride 4
        x = self.mixer2(resize(x, [2 * side for side in x.shape[-2:]]))
        return self.mixer3(resize(x, size))


class SkipMixer(nn.Sequential):
    """Convolutions over a coarse map, brought to a fine map's grid, and that fine map."""

    def forward(self, coarse_bchw: Tensor, fine_bchw: Tensor) -> Tensor:
        """Return what the convolutions make of both maps, at the fine map's size.

        The first convolution is linear in its input channels, so each map has its own part of it, and the coarse
        map's part runs on the coarse grid.
        """
        first, *rest = self
        coarse, fine = first.weight.split([coarse_bchw.shape[1], fine_bchw.shape[1]], dim=1)
        x = F.conv2d(fine_bchw, fine, first.bias, padding=first.padding)
        x = x + convolve_resized(coarse_bchw, coarse, fine_bchw.shape[-2:])
        for layer in rest:
            x = layer(x)
        return x


def convolve_resized(x_bchw: Tensor, weight_oc33: Tensor, size: tuple[int, int]) -> Tensor:
    """Return conv2d(resize(x, size), weight, padding=1), with the products on x's own, smaller grid.

    Resizing acts on positions and a kernel tap on channels, so they commute: every tap's 1x1 convolution of x is
    resized, and the nine results are added, each shifted by its tap's place in the kernel.
    """
    height, width = size
    side = weight_oc33.shape[-1]
    out = x_bchw.new_zeros(len(x_bchw), len(weight_oc33), height + side - 1, width + side - 1)
    for i in range(side):
        for j in range(side):  # what tap (i, j) reads at p lies at p + (i, j) - padding
            top, left = side - 1 - i, side - 1 - j
            tap = resize(F.conv2d(x_bchw, weight_oc33[:, :, i : i + 1, j : j + 1]), size)
            out[:, :, top : top + height, left : left + width] += tap
    edge = side // 2
    return out[:, :, edge : edge + height, edge : edge + width]


def _block(channels: int, widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.Sequential:
    """Return three times convolution, group norm, ReLU."""
    layers: list[nn.Module] = []
    for before, after, kernel in zip((channels, *widths), widths, kernels):
        layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _convolutions(channels: int, middle: int, out: int) -> list[nn.Module]:
    first, second = nn.Conv2d(channels, middle, 3, padding=1), nn.Conv2d(middle, out, 3, padding=1)
    return [first, nn.ReLU(inplace=True), second]
