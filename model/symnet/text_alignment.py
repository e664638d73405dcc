"""Visual-text alignment: attention over positions, queried by the class name's word vector and a prototype."""

from __future__ import annotations

import torch
from torch import Tensor, nn

DROPOUT = 0.1


class TextAlignment(nn.Module):
    """One attention step from [word vector; prototype] over a map, added to the prototype: A(X, t, p)."""

    def __init__(self, channels: int, text_width: int):
        super().__init__()
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.query = nn.Linear(text_width + channels, channels, bias=False)
        bound = channels**-0.5  # U(-1/16, 1/16) at 256 channels
        self.bilinear = nn.Parameter(torch.empty(channels, channels).uniform_(-bound, bound))
        self.project = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, x_bchw: Tensor, text_bt: Tensor, prototype_bc: Tensor) -> Tensor:
        """Return the aligned prototype r = p + drop(proj(sum_i softmax_i(q U k_i) k_i)), (B, C)."""
        key_bcl = self.key(x_bchw).flatten(2)
        question_bc = self.query(torch.cat([text_bt, prototype_bc.to(text_bt.dtype)], dim=1))
        score_b1l = torch.bmm((question_bc @ self.bilinear).unsqueeze(1).to(key_bcl.dtype), key_bcl)
        weight_b1l = score_b1l.float().softmax(dim=2).to(key_bcl.dtype)
        attended_bc = torch.bmm(weight_b1l, key_bcl.transpose(1, 2)).squeeze(1)
        return prototype_bc + self.dropout(self.project(attended_bc))
