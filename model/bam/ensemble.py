"""The ensemble (BAM): base classes that the base learner predicts suppress the meta prediction."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.ops import in_float32


def _merge() -> nn.Conv2d:
    """Return a 1x1 convolution of two maps whose initial output is the first map."""
    conv = nn.Conv2d(2, 1, 1, bias=False)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))
    return conv


def base_map(base_logits_bnhw: Tensor, own_class_b: Tensor | None) -> Tensor:
    """Return the probability of any base class, (B, 1, H, W).

    In training the query's object is a base class, and the sum excludes its channel ``own_class_b``.
    """
    probability = base_logits_bnhw.softmax(dim=1)
    total = probability[:, 1:].sum(1, keepdim=True)
    if own_class_b is None:
        return total
    own = probability.gather(1, own_class_b.view(-1, 1, 1, 1).expand(-1, 1, *probability.shape[2:]))
    return total - own * (own_class_b > 0).view(-1, 1, 1, 1)


class Ensemble(nn.Module):
    """Correct the meta prediction by the scene difference (g) and the base map."""

    def __init__(self):
        super().__init__()
        self.scene = _merge()  # g, shared by background and foreground
        self.background = _merge()

    @in_float32
    def forward(self, meta_b2hw: Tensor, base_bnhw: Tensor, scene_b: Tensor, own_class_b: Tensor | None) -> Tensor:
        """Return final logits (B, 2, h, w) from meta and base logits and the scene difference e."""
        base = base_map(base_bnhw, own_class_b)
        background, foreground = meta_b2hw.softmax(dim=1).split(1, dim=1)
        difference = scene_b.view(-1, 1, 1, 1).expand_as(background)
        background = self.scene(torch.cat([background, difference], dim=1))
        foreground = self.scene(torch.cat([foreground, difference], dim=1))
        background = self.background(torch.cat([background, base], dim=1))
        return torch.cat([background, foreground], dim=1)
