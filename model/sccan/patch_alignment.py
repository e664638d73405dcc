"""Patch alignment: for every window of the query, the window of the support that looks most like it (SCCAN)."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import in_float32
from model.common.prototype import SUPPORT_EPS

COSINE_EPS = 1e-7


class PatchAlignment(nn.Module):
    """Nearest support window by the cosine of window prototypes, among the windows that hold foreground."""

    @torch.no_grad()
    @in_float32
    def forward(self, query_bntc: Tensor, support_bntc: Tensor, mask_bnt: Tensor) -> Tensor:
        """Return the support window's index for every query window, (B, N) int64; the lowest where several tie.

        A window of the query is represented by its plain mean, padding counted, one of the support by the mean over
        its soft mask. Without any foreground it is window 0 for all.
        """
        query = query_bntc.mean(2)  # (B, N, C)
        amount = mask_bnt.sum(2, keepdim=True)  # (B, N, 1)
        support = torch.einsum("bntc,bnt->bnc", support_bntc, mask_bnt) / (amount + SUPPORT_EPS)
        query, support = (F.normalize(x, dim=2, eps=COSINE_EPS) for x in (query, support))
        likeness = (1 + query @ support.transpose(1, 2)) / 2  # (B, N of the query, N of the support), in 0..1
        return (likeness * (amount > 0).transpose(1, 2)).argmax(2)
