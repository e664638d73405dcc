"""DCAMA's decoder: from stacks of soft masks to logits, with skips from the encoder at strides 8 and 4."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.layers import two_convolutions
from model.common.ops import resize

WIDTH = 128  # channels of the mixed masks
KERNELS = {4: (3, 3, 3), 3: (5, 3, 3), 2: (5, 5, 3)}  # stage -> kernel sides of its stack's three convolutions
GROUPS = 4  # of every group norm
MIXER = (128, 64, 64, 16, 16, 2)  # output channels of the three mixers' convolutions, two each


class MaskDecoder(nn.Module):
    """Encode each stage's stack, merge from stage 4 up to stage 2, then upsample to the image's size."""

    def __init__(self, intermediate_counts: dict[int, int], channels: dict[int, int]):
        super().__init__()
        self.enter = nn.ModuleDict(
            {str(i): _block(intermediate_counts[i], (16, 64, WIDTH), kernels) for i, kernels in KERNELS.items()}
        )
        self.merge = nn.ModuleDict({str(i): _block(WIDTH, (WIDTH,) * 3, KERNELS[4]) for i in (3, 2)})
        skips = 2 * channels[2] + 2 * channels[1]
        self.mixer1 = SkipMixer(*two_convolutions(WIDTH + skips, *MIXER[:2]), nn.ReLU(inplace=True))
        self.mixer2 = nn.Sequential(*two_convolutions(*MIXER[1:4]), nn.ReLU(inplace=True))
        self.mixer3 = nn.Sequential(*two_convolutions(*MIXER[3:]))

    def forward(self, masks: dict[int, Tensor], skips: dict[int, Tensor], size: Sequence[int]) -> Tensor:
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
    """Convolutions over the concatenation of a coarse map, resized to a fine map's grid, and that fine map."""

    def forward(self, coarse_bchw: Tensor, fine_bchw: Tensor) -> Tensor:  # type: ignore[override]  # takes two maps
        """Return the output of the convolutions, at the fine map's size.

        The first convolution is linear in its input channels, so it is split into a part for each map, and the coarse
        map's part runs on the coarse grid.
        """
        first, *rest = self
        assert isinstance(first, nn.Conv2d)
        coarse, fine = first.weight.split([coarse_bchw.shape[1], fine_bchw.shape[1]], dim=1)
        x = F.conv2d(fine_bchw, fine, first.bias, padding=1)
        x = x + convolve_resized(coarse_bchw, coarse, fine_bchw.shape[-2:])
        for layer in rest:
            x = layer(x)
        return x


def convolve_resized(x_bchw: Tensor, weight_oc33: Tensor, size: Sequence[int]) -> Tensor:
    """Return conv2d(resize(x, size), weight, padding=1), with the products on x's own, smaller grid.

    Resizing acts on positions and each of the nine cells of the kernel on channels, so they commute: the 1x1
    convolution of x by every cell is resized, and the nine results are added, each shifted by its cell's offset.
    """
    height, width = size
    side = weight_oc33.shape[-1]
    out = x_bchw.new_zeros(len(x_bchw), len(weight_oc33), height + side - 1, width + side - 1)
    for i in range(side):
        for j in range(side):  # at position p, cell (i, j) reads position p + (i, j) - padding
            top, left = side - 1 - i, side - 1 - j
            product = resize(F.conv2d(x_bchw, weight_oc33[:, :, i : i + 1, j : j + 1]), size)
            out[:, :, top : top + height, left : left + width] += product
    edge = side // 2
    return out[:, :, edge : edge + height, edge : edge + width]


def _block(channels: int, widths: tuple[int, ...], kernels: tuple[int, ...]) -> nn.Sequential:
    """Return a sequence of convolution, group norm and ReLU for each width."""
    layers: list[nn.Module] = []
    for before, after, kernel in zip((channels, *widths), widths, kernels):
        layers += [nn.Conv2d(before, after, kernel, padding=kernel // 2), nn.GroupNorm(GROUPS, after)]
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)
