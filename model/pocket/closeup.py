"""The close-up: a support whose object is small is seen once more, enlarged around the object.

On a grid of 16 pixels a small object has few cells, and their features are mixed with those of its surroundings.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from model.episode import IGNORE
from model.tensors.windows import spans_of

CONTEXT = 1.8  # side of a close-up in sides of the object's box, the longer ones
MOST = 2.5  # largest factor of enlargement
LEAST = 1.25  # smallest factor that is worth another pass


class Closeup(NamedTuple):
    """Where the close-ups of n supports lie, and their labels."""

    places: Tensor  # of each of their pixels, (n, S, S, 2) x and y in -1..1
    label: Tensor  # (n, S, S) uint8; IGNORE everywhere if the object is not small: the close-up counts for nothing

    def of(self, image_n3ss: Tensor) -> Tensor:
        """Return the close-ups of images, (n, 3, S, S)."""
        return F.grid_sample(image_n3ss, self.places, align_corners=True)


def closeup(label_nss: Tensor) -> Closeup | None:
    """Return the close-ups of n supports with labels (n, S, S), None if no object is small."""
    side = label_nss.shape[-1]
    is_object = label_nss == 1
    span_n4 = spans_of(is_object.unsqueeze(1)).float()
    span_n22 = span_n4.unflatten(1, (2, 2))  # first and last row, and column
    first_n2, last_n2 = span_n22.unbind(2)
    sides_n2 = last_n2 - first_n2 + 1  # of the box; negative for no object
    wanted_n = (CONTEXT * sides_n2.amax(1)).clamp(min=side / MOST)
    has_object_n = (sides_n2 > 0).all(1)
    small_n = has_object_n & (wanted_n * LEAST <= side)
    if not small_n.any():
        return None

    half_n1 = (wanted_n.clamp(max=side) - 1)[:, None] / 2
    last_middle_n1 = side - 1 - half_n1
    middle_n2 = span_n22.mean(2).maximum(half_n1).minimum(last_middle_n1)  # the close-up stays in the image
    step_s = torch.linspace(-1, 1, side, device=label_nss.device)
    from_middle_n1s = half_n1[..., None] * step_s
    pixels_n2s = middle_n2[..., None] + from_middle_n1s
    rows_ns, columns_ns = pixels_n2s.unbind(1)
    y_ns, x_ns = (2 * pixels_n2s / (side - 1) - 1).unbind(1)
    shape = len(x_ns), side, side
    x = x_ns[:, None, :].expand(shape)
    y = y_ns[:, :, None].expand(shape)
    places = torch.stack([x, y], dim=3)
    item = torch.arange(len(label_nss), device=label_nss.device)[:, None, None]
    row = rows_ns.round().long()[:, :, None]
    column = columns_ns.round().long()[:, None, :]
    label = label_nss[item, row, column]
    nothing = torch.full_like(label, IGNORE)
    return Closeup(places, torch.where(small_n[:, None, None], label, nothing))
