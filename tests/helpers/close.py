"""Whether numbers are equal but for rounding: floats that passed through other memory, shapes or kernels.

Bits are asked of the same tensor twice, of draws, files and counts, and of a resumed training, where the project
promises them.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

ROUNDING = 1e-5  # of the norm
OTHER_PIXELS = 1e-3  # share: where two logits all but agree


def close(given: Tensor | ArrayLike, want: Tensor | ArrayLike) -> bool:
    """Return whether numbers of one shape differ by at most ``ROUNDING`` of the norm of those that are wanted."""
    given, want = (torch.as_tensor(x).detach().cpu().double() for x in (given, want))
    assert given.shape == want.shape, (given.shape, want.shape)
    return bool((given - want).norm() <= ROUNDING * want.norm())


def all_close(given: dict[str, Tensor], want: dict[str, Tensor]) -> bool:
    """Return whether tensors have the same names and are each ``close``."""
    return given.keys() == want.keys() and all(close(tensor, want[name]) for name, tensor in given.items())


def same_pixels(given: ArrayLike, want: ArrayLike) -> bool:
    """Return whether two masks of one shape, each decided by logits, differ in ``OTHER_PIXELS`` at most."""
    given, want = np.asarray(given), np.asarray(want)
    assert given.shape == want.shape, (given.shape, want.shape)
    return bool((given != want).mean() <= OTHER_PIXELS)
