"""Hyper-correlation: query-support similarity at every tap of the encoder, pooled over the support's foreground.

The kind of head is a setting, ``correlation.kind``; ``pooled`` is the published one. A head is a module
``(query's tap, supports' tap, masks) -> (B, h, w)`` in ``KINDS``, called for each tap as the encoder makes it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.ops import in_float32, resize

NORM_EPS = 1e-5
INSIDE = 1 - 1e-6  # a resized mask value from which a support position lies wholly inside the object
FUSION_CHANNELS = 16
OUT_CHANNELS = 48


class PooledCorrelation(nn.Module):
    """Squeeze the 4D correlation to one map per tap: its mean over the support positions inside the mask."""

    def __init__(self, tap_counts: dict[int, int]):
        super().__init__()
        self.out_counts = dict(tap_counts)

    @torch.no_grad()
    @in_float32
    def forward(self, query_bchw: Tensor, support_nchw: Tensor, mask_bk1hw: Tensor) -> Tensor:
        """Return the map of one tap, (B, h, w), float32; the supports' N = B * K images are those of the masks.

        Cosines are clamped at 0 and averaged inside each shot's mask, then over shots. Both commute with a query
        position's positive length, which is divided by at the end.
        """
        (batch, shots), size = mask_bk1hw.shape[:2], query_bchw.shape[-2:]
        inside_bkl = resize(mask_bk1hw.flatten(0, 1), size).view(batch, shots, -1) >= INSIDE
        query, support = (x.flatten(2).transpose(1, 2) for x in (query_bchw, support_nchw))  # (B, L, C), (B * K, L, C)
        out = query.new_zeros(query.shape[:2])
        for b in range(batch):
            for k in range(shots):
                chosen = support[b * shots + k][inside_bkl[b, k]]  # (m, C)
                if len(chosen):
                    out[b] += (query[b] @ (chosen / _length(chosen)).T).clamp_(min=0).mean(1) / shots
        return (out / _length(query)[..., 0]).unflatten(1, size)


KINDS = {"pooled": PooledCorrelation}


def _length(x: Tensor) -> Tensor:
    """Return |x| + eps over the last dimension, which stays as 1."""
    return x.norm(dim=-1, keepdim=True) + NORM_EPS


class CorrelationFusion(nn.Module):
    """Fuse the stages' correlation maps from the deepest to the shallowest into H, (B, 48, h, w)."""

    def __init__(self, counts: dict[int, int]):
        super().__init__()
        width = FUSION_CHANNELS
        self.enter = nn.ModuleDict({str(stage): nn.Conv2d(n, width, 1) for stage, n in counts.items()})
        self.top = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(1, width), nn.ReLU(inplace=True))
        self.bottom = nn.Sequential(
            nn.Conv2d(width, width, 3, padding=1),
            nn.GroupNorm(1, width),
            nn.ReLU(inplace=True),
            nn.Conv2d(width, OUT_CHANNELS, 3, padding=1),
        )

    def forward(self, maps: dict[int, Tensor]) -> Tensor:
        """Return H on stage 3's grid (VGG's stage 2 has a finer one and is resized)."""
        c2, c3, c4 = (resize(maps[stage], maps[3].shape[-2:]) for stage in (2, 3, 4))
        top = self.top(self.enter["3"](c3) + self.enter["4"](c4))
        return self.bottom(top + self.enter["2"](c2))
