"""The values inside a method, a few figures each: what is kept of supports, and what enters and leaves its parts."""

import functools
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn

from model.episode import Episode, Shot
from model.method import Method
from tests.helpers.pretend import tensors_in

SUMS = 3  # with signs drawn anew
KEPT, PART, MAP = "kept", "part", "map"  # of supports; of the network; of the output


def kept(network: Method, episode: Episode) -> dict[str, np.ndarray]:
    """Return the figures of each tensor that is kept of the supports, (n, 1 + SUMS); {}: nothing is kept."""
    shots = []
    images, labels = (x.flatten(0, 1).split(1) for x in (episode.support, episode.support_label))
    for image, label in zip(images, labels, strict=True):  # a GPU would fill up the smaller of several objects
        shots += network.encode_supports(image, label)
    return {KEPT: figures_of_each(Shot.join(shots).tensors())} if shots else {}


@contextmanager
def parts(network: nn.Module) -> Iterator[dict[str, np.ndarray]]:
    """Give the figures of what enters and leaves each part of a network, filled at the end: name -> (n, 1 + SUMS).

    A part is a module of the network but for its encoder; calls by modules of other modules do not count.
    """
    seen = defaultdict(list)
    depth = 0

    def enter(*_: Any) -> None:
        nonlocal depth
        depth += 1

    def leave(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            seen[name] += [tensor.detach().clone() for tensor in tensors_in((inputs, output))]

    handles = []
    for name, module in network.named_modules():
        part = name.partition(".")[0]
        if part not in ("", "encoder"):
            handles.append(module.register_forward_pre_hook(enter))
            handles.append(module.register_forward_hook(functools.partial(leave, part)))
    figures = {}
    yield figures
    for handle in handles:
        handle.remove()
    figures |= {name: figures_of_each(tensors) for name, tensors in seen.items() if tensors}


def figures_of_each(tensors: list[Tensor]) -> np.ndarray:
    """Return of each tensor its norm, and sums of its values with drawn signs, (n, 1 + SUMS) float32.

    A difference of a tensor changes each sum by about the difference's norm.
    """
    rows = []
    for tensor in tensors:
        values = tensor.detach().cpu().double().flatten().numpy()
        rows.append([np.linalg.norm(values), *(_signs(len(values)) @ values)])
    return np.array(rows, np.float32)


@functools.lru_cache(maxsize=16)
def _signs(length: int) -> np.ndarray:
    random = np.random.RandomState(0)  # a stream that numpy keeps for good
    return np.where(random.random_sample((SUMS, length)) < 0.5, -1.0, 1.0)
