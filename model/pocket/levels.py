"""The maps of an image that Pocket compares: three of the encoder, and an embedding that is learnt from them.

The encoder's are the output of stage 3 and those of the last two blocks of stage 4, of whatever width: in EfficientNets
the last block has a grid in common with narrower ones that tell classes apart better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.common.ops import in_float32, unit
from model.common.with_encoder import HIGH, LOW, MID
from model.encoders.encoder import Encoder, EncoderVariant
from model.encoders.features import Features

VARIANT = EncoderVariant(intermediate={HIGH: 2}, any_width=True)
EMBEDDING = 128  # channels of the learnt level


@dataclass
class Levels:
    """The maps of B images on one grid; float32 but for ``classes``, which autocast may halve."""

    unit: list[Tensor]  # (B, C_l, h, w) of each level, positions of length 1; the learnt level is the last
    joint: Tensor  # (B, C, h, w), the encoder's levels concatenated, their mean square 1
    classes: Tensor  # (B, N + 1, h, w), logits of the base classes, background first
    fine: Tensor  # (B, C_f, h', w'), an earlier stage for outlines, on a grid at least as fine

    def rows(self, which: slice) -> Levels:
        """Return the maps of some of the images, as views."""
        return Levels([x[which] for x in self.unit], self.joint[which], self.classes[which], self.fine[which])


class LevelsOf(nn.Module):
    """From the encoder's features to levels.

    Args:
        encoder: built with ``VARIANT``.
    """

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
        maps = [features.stage[MID], *features.intermediate[HIGH]]
        own = [in_float32(unit)(x, 1) for x in maps]
        joint = torch.cat([x * x.shape[1] ** 0.5 for x in own], dim=1)
        embedded = in_float32(unit)(self.embed(joint), 1)
        return Levels([*own, embedded], joint, classify(joint), features.stage[LOW].float())
