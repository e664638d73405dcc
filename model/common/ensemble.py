"""Distances of scenes (BAM): they weigh the shots, and correct the meta prediction together with the base learner's."""

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
@in_float32
def gram_distance(query_gram_bcc: Tensor, support_gram_bcc: Tensor) -> Tensor:
    """Return e_k = |G_q - G_k| / C of one shot, (B,), the distance of low-level statistics."""
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


class Ensemble(nn.Module):
    """Correct the meta prediction by the scene difference (g) and the probability of base classes."""

    def __init__(self):
        super().__init__()
        self.scene = _merge()  # g, shared by background and foreground
        self.background = _merge()

    @in_float32
    def forward(self, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor, own_class_b: Tensor | None) -> Tensor:
        """Return final logits (B, 2, h, w) from meta and base logits and the scene difference e.

        In training the query's object is a base class; ``own_class_b`` suppresses nothing.
        """
        probability = base_bnhw.softmax(dim=1)
        base = probability[:, 1:].sum(1, keepdim=True)  # of any base class, (B, 1, h, w)
        if own_class_b is not None:
            own = probability.gather(1, own_class_b.view(-1, 1, 1, 1).expand(-1, 1, *probability.shape[2:]))
            base = base - own * (own_class_b > 0).view(-1, 1, 1, 1)
        background, foreground = meta_b2hw.softmax(dim=1).split(1, dim=1)
        difference = scene_b.view(-1, 1, 1, 1).expand_as(background)
        background = self.scene(torch.cat([background, difference], dim=1))
        foreground = self.scene(torch.cat([foreground, difference], dim=1))
        background = self.background(torch.cat([background, base], dim=1))
        return torch.cat([background, foreground], dim=1)


def _merge() -> nn.Conv2d:
    """Return a 1x1 convolution of two maps whose initial output is the first map."""
    conv = nn.Conv2d(2, 1, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    return conv
