"""Decoder parts that several methods share: a residual refinement and the two-class head."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

HEAD_DROPOUT = 0.1
CLASSES = 2  # background, foreground


class Refine(nn.Module):
    """Residual refinement: x + relu(conv(relu(conv(x))))."""

    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the refined x, of the same shape."""
        return x + self.body(x)


class Head(nn.Module):
    """Two-class logits from decoder features."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.dropout = nn.Dropout2d(HEAD_DROPOUT)
        self.classify = nn.Conv2d(width, CLASSES, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, 2, H, W), background first."""
        return self.classify(self.dropout(F.relu(self.conv(x))))
