"""The base classes in Pocket: a small classifier beside the comparison, and its claims on a query.

The classifier teaches the encoder to tell classes apart, and tells the decoder where the query shows a base class, and
whether it is one that the supports' objects look like.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from model.common.ops import in_float32

HIDDEN = 128  # channels of the classifier's hidden layer
MAPS = 4
MASK_EPS = 1e-4  # smallest sum of a mask
PROBABILITY_EPS = 1e-12  # smallest product of probabilities, for the gradient of its root


class BaseClasses(nn.Module):
    """Logits of the base classes at every position.

    Args:
        channels: of its input.
        classes: N.
    """

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.classify = nn.Sequential(nn.Conv2d(channels, HIDDEN, 1), nn.ReLU(), nn.Conv2d(HIDDEN, classes + 1, 1))

    def forward(self, joint_bchw: Tensor) -> Tensor:
        """Return logits (B, N + 1, h, w), background first."""
        return self.classify(joint_bchw)

    @staticmethod
    @in_float32
    def claims(query_bnhw: Tensor, supports_bknhw: Tensor, object_bkhw: Tensor) -> Tensor:
        """Return maps (B, 4, h, w) from logits of queries and supports: probability of the background, likeness to the
        supports' objects with and without the background (Bhattacharyya), and the greatest probability of a class.

        Args:
            query_bnhw: logits of B queries.
            supports_bknhw: of their K supports.
            object_bkhw: share of each cell of the supports that the object covers.
        """
        probability = query_bnhw.softmax(1)
        weight = object_bkhw / object_bkhw.sum((2, 3), keepdim=True).clamp(min=MASK_EPS)
        weight = weight * equal_weights(object_bkhw)[:, :, None, None]
        of_object = torch.einsum("bknhw,bkhw->bn", supports_bknhw.softmax(2), weight)
        both = (probability * of_object[:, :, None, None]).clamp(min=PROBABILITY_EPS).sqrt()
        alike, alike_class = both.sum(1, keepdim=True), both[:, 1:].sum(1, keepdim=True)
        return torch.cat([probability[:, :1], alike, alike_class, probability[:, 1:].amax(1, keepdim=True)], dim=1)


def equal_weights(object_bkhw: Tensor) -> Tensor:
    """Return weights (B, K) of K supports that sum to 1: equal for those that show the object, 0 for the others."""
    shows_bk = (object_bkhw.flatten(2).sum(2) > 0).float()
    return shows_bk / shows_bk.sum(1, keepdim=True).clamp(min=1)
