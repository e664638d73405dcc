"""The close-up: a support whose object is small is seen once more, enlarged around the object.

On a grid of 16 pixels a small object has few cells, and their features are mixed with those of its surroundings.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from model.common.fixed_shapes import shapes_are_fixed, spans_of
from model.episode import IGNORE

CONTEXT = 1.8  # side of a close-up in sides of the object's box, the longer ones
MOST = 2.5  # largest factor of enlargement
LEAST = 1.25  # smallest factor that is worth another pass


class Closeup(NamedTuple):
    """The close-ups of B supports."""

    image: Tensor  # (B, 3, S, S) float32, RGB 0..255
    label: Tensor  # (B, S, S) uint8; IGNORE everywhere if the object is not small: the close-up counts for nothing
    # First row, last row, first column, last column of the first support's pixels; empty in an export, whose support
    # has one label, and so one box.
    box: tuple[float, ...]


def closeup(image_b3ss: Tensor, label_bss: Tensor) -> Closeup | None:
    """Return the close-ups of B supports (B, 3, S, S) with labels (B, S, S), None if no object is small."""
    side = label_bss.shape[-1]
    span_b22 = spans_of((label_bss == 1)[:, None]).float().unflatten(1, (2, 2))  # first and last row, and column
    first_b2, last_b2 = span_b22.unbind(2)
    sides_b2 = last_b2 - first_b2 + 1  # of the box; negative for no object
    wanted_b = (CONTEXT * sides_b2.amax(1)).clamp(min=side / MOST)
    has_object_b = (sides_b2 > 0).all(1)
    small_b = has_object_b & (wanted_b * LEAST <= side)
    half_b1 = (wanted_b.clamp(max=side) - 1)[:, None] / 2
    middle_b2 = span_b22.mean(2).maximum(half_b1).minimum(side - 1 - half_b1)  # the close-up stays in the image
    step_s = torch.linspace(-1, 1, side, device=label_bss.device)
    rows_bs, columns_bs = (middle_b2[..., None] + half_b1[..., None] * step_s).unbind(1)  # of its pixels
    box: list[float] = []
    if not shapes_are_fixed():
        edges = (x_bs[0, :: side - 1] for x_bs in (rows_bs, columns_bs))
        *box, small = torch.cat([*edges, small_b.any()[None]]).tolist()  # one transfer
        if not small:
            return None

    x_bs, y_bs = (2 * places / (side - 1) - 1 for places in (columns_bs, rows_bs))  # in -1..1
    shape = len(x_bs), side, side
    grid_bss2 = torch.stack([x_bs[:, None, :].expand(shape), y_bs[:, :, None].expand(shape)], dim=3)
    image = F.grid_sample(image_b3ss.float(), grid_bss2, align_corners=True)
    item = torch.arange(len(label_bss), device=label_bss.device)[:, None, None]
    row = rows_bs.round().long()[:, :, None]
    column = columns_bs.round().long()[:, None, :]
    label = label_bss[item, row, column]
    label = torch.where(small_b[:, None, None], label, torch.full_like(label, IGNORE))
    return Closeup(image, label, tuple(box))
