"""The weights of the measured cases, a function of each tensor's published name and shape: no file holds them."""

import functools
import zlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

ENCODER = "layer"  # how names of its tensors begin, which are those of all methods


def fill(name: str, shape: Sequence[int]) -> Tensor:
    """Return a tensor of a name, float32, which nobody changes in place; a batch norm's counter is an int64 of 0."""
    return (_drawn_once if name.startswith(ENCODER) else _drawn)(name, tuple(shape))


def _drawn(name: str, shape: tuple[int, ...]) -> Tensor:
    if name.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    random = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    noise = random.standard_normal(shape, dtype=np.float32)
    if shape == (1, 2, 1, 1):  # what merges two maps keeps the first
        value = np.array([1.0, 0.0], np.float32).reshape(shape) + 0.2 * noise
    elif name.endswith("running_var"):
        value = 1.0 + 0.2 * np.abs(noise)
    elif name.endswith(("running_mean", "bias")):
        value = 0.05 * noise
    elif len(shape) == 1:  # of a norm, small at the end of a residual block
        value = (0.3 if name.endswith("bn3.weight") else 1.0) * (1.0 + 0.1 * noise)
    else:
        value = noise * np.sqrt(2.0 / np.prod(shape[1:]))
    return torch.from_numpy(np.ascontiguousarray(value, dtype=np.float32))


_drawn_once = functools.cache(_drawn)


def filled(shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Return the tensors of a checkpoint's layout, name -> shape."""
    return {name: fill(name, shape) for name, shape in shapes.items()}
