"""SCCAN's patch alignment: for every window of the query, the most similar window of the support."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.common.ops import in_float32
from model.common.prototype import SUPPORT_EPS

COSINE_EPS = 1e-7


class PatchAlignment(nn.Module):
    """Nearest support window by the cosine of window prototypes, among the windows that contain foreground."""

    @torch.no_grad()
    @in_float32
    def forward(self, query_bntc: Tensor, support_bntc: Tensor, mask_bnt: Tensor) -> Tensor:
        """Return the support window's index for every query window, (B, N) int64; the lowest where several tie.

        A window of the query is represented by its mean, padding included, a window of the support by the mean over its
        soft mask. Without any foreground, all query windows get window 0.
        """
        query = query_bntc.mean(2)  # (B, N, C)
        amount = mask_bnt.sum(2, keepdim=True)  # (B, N, 1)
        support = torch.einsum("bntc,bnt->bnc", support_bntc, mask_bnt) / (amount + SUPPORT_EPS)
        query, support = (F.normalize(x, dim=2, eps=COSINE_EPS) for x in (query, support))
        similarity = (1 + query @ support.transpose(1, 2)) / 2  # (B, N of the query, N of the support), in 0..1
        return (similarity * (amount > 0).transpose(1, 2)).argmax(2)
