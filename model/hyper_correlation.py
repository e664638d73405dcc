"""Hyper-correlation: query-support similarity at every tap of the encoder, pooled over the support's foreground.

The kind of head is a setting, ``correlation.kind``; ``pooled`` is the published one. A head is a module
``(query taps, support taps, masks) -> {stage: (B, n, h, w)}`` in ``KINDS``.
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
    def forward(
        self, query_taps: dict[int, list[Tensor]], support_taps: dict[int, list[Tensor]], mask_bk1hw: Tensor
    ) -> dict[int, Tensor]:
        """Return stage -> (B, n, h, w), float32, n the stage's taps; taps are (B, C, h, w) and (B * K, C, h, w)."""
        maps = {}
        for stage, taps in query_taps.items():
            size = taps[0].shape[-2:]
            inside = resize(mask_bk1hw.flatten(0, 1).float(), size).view(*mask_bk1hw.shape[:2], -1) >= INSIDE
            pairs = zip(taps, support_taps[stage], strict=True)
            maps[stage] = torch.stack([self._correlate(q, s, inside) for q, s in pairs], dim=1).unflatten(2, size)
        return maps

    @staticmethod
    @in_float32
    def _correlate(query_bchw: Tensor, support_nchw: Tensor, inside_bkl: Tensor) -> Tensor:
        """Return one tap's map, (B, L): clamped cosines, averaged inside each shot's mask, then over shots."""
        batch, shots, _ = inside_bkl.shape
        query = _unit(query_bchw).transpose(1, 2)  # (B, L, C)
        support = _unit(support_nchw)  # (B * K, C, L)
        out = query.new_zeros(query.shape[:2])
        for b in range(batch):
            for k in range(shots):
                chosen = support[b * shots + k][:, inside_bkl[b, k]]  # (C, m)
                if chosen.shape[1]:
                    out[b] += (query[b] @ chosen).clamp_(min=0).mean(1) / shots
        return out


KINDS = {"pooled": PooledCorrelation}


def _unit(x: Tensor) -> Tensor:
    """Return (B, C, L) with channels normalised as x / (|x| + eps)."""
    x = x.flatten(2)
    return x / (x.norm(dim=1, keepdim=True) + NORM_EPS)


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
