"""HSNet's decoder: two pairs of 2D convolutions with a resize to twice the grid between them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from model.common.ops import resize
from model.hsnet.squeeze import WIDTHS

ENLARGE = 2  # factor of the grid between the pairs
KERNEL = 3
CLASSES = 2  # background, foreground


class Decoder(nn.Module):
    """From the squeezed correlation to logits; no features of the image enter."""

    def __init__(self):
        super().__init__()
        middle, width = WIDTHS[-2:]
        self.coarse = nn.Sequential(*_convolutions(width, width, middle), nn.ReLU(inplace=True))
        self.fine = nn.Sequential(*_convolutions(middle, middle, CLASSES))

    def forward(self, x_bchw: Tensor, size: Sequence[int]) -> Tensor:
        """Return logits (B, 2, *size), background first."""
        x = self.coarse(x_bchw)
        return resize(self.fine(resize(x, [ENLARGE * side for side in x.shape[-2:]])), size)


def _convolutions(channels: int, middle: int, out: int) -> list[nn.Module]:
    """Return two convolutions with a ReLU between them."""
    edge = KERNEL // 2
    first, second = nn.Conv2d(channels, middle, KERNEL, padding=edge), nn.Conv2d(middle, out, KERNEL, padding=edge)
    return [first, nn.ReLU(inplace=True), second]
