"""K-shot fusion (BAM, Sym-Net): shots whose scene resembles the query's have larger weights."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.ops import in_float32

HIDDEN = 2
EPS = 1e-7


@torch.no_grad()
@in_float32
def gram(feature_bchw: Tensor) -> Tensor:
    """Return the cosine Gram matrix between channels over positions, (B, C, C)."""
    x_bcl = feature_bchw.flatten(2)
    norm_bc = x_bcl.norm(dim=2)
    return torch.bmm(x_bcl, x_bcl.transpose(1, 2)) / (norm_bc.unsqueeze(2) * norm_bc.unsqueeze(1) + EPS)


@torch.no_grad()
def scene_distance(query_bchw: Tensor, support_bkchw: Tensor) -> Tensor:
    """Return e_k = |G_q - G_k| / C, the distance of each support's low-level statistics to the query's, (B, K)."""
    query_gram = gram(query_bchw)
    return torch.stack([gram_distance(query_gram, gram(support)) for support in support_bkchw.unbind(1)], dim=1)


@torch.no_grad()
@in_float32
def gram_distance(query_gram_bcc: Tensor, support_gram_bcc: Tensor) -> Tensor:
    """Return e_k of one shot, (B,), from the Gram matrices."""
    return (query_gram_bcc - support_gram_bcc).flatten(1).norm(dim=1) / query_gram_bcc.shape[1]


class ShotWeights(nn.Module):
    """Learned shot weights from the sorted scene distances; a single shot has weight 1 and needs no parameters.

    Args:
        shots: K.
        in_shot_order: assign each weight to the shot of its distance. HDMNet's published checkpoints need False:
            the weight of rank r belongs to the shot at position r.
    """

    def __init__(self, shots: int, in_shot_order: bool = True):
        super().__init__()
        self.shots, self.in_shot_order = shots, in_shot_order
        if shots > 1:
            self.mix = nn.Sequential(nn.Conv2d(shots, HIDDEN, 1), nn.ReLU(inplace=True), nn.Conv2d(HIDDEN, shots, 1))

    @in_float32
    def forward(self, distance_bk: Tensor) -> Tensor:
        """Return the weights w_k, (B, K) with sum 1, from the distances e_k."""
        if self.shots == 1:
            return torch.ones_like(distance_bk)
        ascending, order = distance_bk.sort(dim=1)
        score = self.mix(ascending[:, :, None, None])[:, :, 0, 0]
        if self.in_shot_order:
            score = torch.zeros_like(score).scatter(1, order, score)
        return score.softmax(dim=1)
