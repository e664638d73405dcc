"""The maps of an image that Pocket compares: three of the encoder, and an embedding that is learnt from them.

The encoder's are the output of stage 3 and those of the last two blocks of stage 4, of whatever width: in EfficientNets
the last block has a grid in common with narrower ones that tell classes apart better. A small classifier of the base
classes beside the comparison teaches the encoder to tell classes apart, and tells the decoder where the query shows a
base class, and whether it is one that the supports' objects look like.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.common.ops import in_float32
from model.common.training_free import unit
from model.common.with_encoder import HIGH, LOW, MID
from model.encoders.encoder import Encoder, EncoderVariant
from model.encoders.features import Features

VARIANT = EncoderVariant(intermediate={HIGH: 2}, any_width=True)
EMBEDDING = 128  # channels of the learnt level
BASE_MAPS = 4  # that the decoder reads of the base classes
MASK_EPS = 1e-4  # smallest sum of a mask
PROBABILITY_EPS = 1e-12  # smallest product of probabilities, for the gradient of its root


@dataclass
class Levels:
    """The maps of B images on one grid; float32 but for ``classes``, which autocast may halve."""

    unit: list[Tensor]  # (B, C_l, h, w) of each level, positions of length 1; the learnt level is the last
    joint: Tensor  # (B, C, h, w), the encoder's levels concatenated, their mean square 1
    classes: Tensor  # (B, N + 1, h, w), logits of the base classes, background first
    fine: Tensor  # (B, C_f, h', w'), an earlier stage for outlines, on a grid at least as fine

    def each(self, change: Callable[[Tensor], Tensor]) -> "Levels":
        """Return the maps that ``change`` makes of each, in the order of the fields."""
        return Levels([change(x) for x in self.unit], change(self.joint), change(self.classes), change(self.fine))

    def rows(self, which: slice) -> "Levels":
        """Return the maps of some of the images, as views."""
        return self.each(lambda x: x[which])

    def shots(self, which: slice | Tensor, count: int) -> "Levels":
        """Return the maps of some of the ``count`` supports of each episode, after each other."""
        return self.each(lambda x: x.unflatten(0, (-1, count))[:, which].flatten(0, -4))

    def beside(self, other: "Levels") -> "Levels":
        """Return the maps of B images, each followed by the other's: 2 B of them."""

        def pairs(x: Tensor, y: Tensor) -> Tensor:
            return torch.stack([x, y], dim=1).flatten(0, 1)

        unit = [pairs(x, y) for x, y in zip(self.unit, other.unit, strict=True)]
        joint = pairs(self.joint, other.joint)
        return Levels(unit, joint, pairs(self.classes, other.classes), pairs(self.fine, other.fine))


class LevelsOf(nn.Module):
    """From the features of an encoder that was built with ``VARIANT`` to levels."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.channels = [encoder.channels[MID], *encoder.widths(HIGH)]
        total = sum(self.channels)
        self.embed = nn.Conv2d(total, EMBEDDING, 1, bias=False)
        # A random projection keeps cosines, up to noise: the learnt level begins as the mean of the others, weighted by
        # their channels.
        nn.init.normal_(self.embed.weight, std=total**-0.5)

    def forward(self, features: Features, classify: Callable[[Tensor], Tensor]) -> Levels:
        """Return the levels of B images; ``classify`` gives the logits of the base classes from ``Levels.joint``."""
        of_encoder = [unit(x, dim=1) for x in (features.stage[MID], *features.intermediate[HIGH])]
        joint = torch.cat([x * x.shape[1] ** 0.5 for x in of_encoder], dim=1)
        learnt = unit(self.embed(joint), dim=1)
        return Levels([*of_encoder, learnt], joint, classify(joint), features.stage[LOW].float())


class BaseClasses(nn.Module):
    """Logits of the base classes at every position, (B, N + 1, h, w), background first, by ``classify``."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.classify = nn.Sequential(nn.Conv2d(channels, 128, 1), nn.ReLU(), nn.Conv2d(128, classes + 1, 1))


@in_float32
def base_maps(query_bnhw: Tensor, supports_bknhw: Tensor, object_bkhw: Tensor) -> Tensor:
    """Return maps (B, 4, h, w) from logits of queries and supports: probability of the background, similarity to the
    supports' objects with and without the background (Bhattacharyya), and the greatest probability of a class.
    """
    probability = query_bnhw.softmax(1)
    weight = object_bkhw / object_bkhw.sum((2, 3), keepdim=True).clamp(min=MASK_EPS)
    weight = weight * equal_weights(object_bkhw)[:, :, None, None]
    of_object = torch.einsum("bknhw,bkhw->bn", supports_bknhw.softmax(2), weight)
    product = (probability * of_object[:, :, None, None]).clamp(min=PROBABILITY_EPS).sqrt()
    similarity = product.sum(1, keepdim=True)
    class_similarity = product[:, 1:].sum(1, keepdim=True)
    likeliest = probability[:, 1:].amax(1, keepdim=True)
    return torch.cat([probability[:, :1], similarity, class_similarity, likeliest], dim=1)


def equal_weights(object_bkhw: Tensor) -> Tensor:
    """Return weights (B, K) of K supports that sum to 1: equal for those that show the object, 0 for the others."""
    shows_bk = (object_bkhw.flatten(2).sum(2) > 0).float()
    return shows_bk / shows_bk.sum(1, keepdim=True).clamp(min=1)
