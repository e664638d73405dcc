"""A moving average of what learns: steadier than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM_UP = 10  # the share kept is at most (1 + step) / (WARM_UP + step): early weights are soon forgotten


class EMA:
    """The exponential moving average of a network's learning tensors (stored statistics are the network's own).

    Args:
        keep: share of the average that stays in each step; about 1 / (1 - keep) steps count.
    """

    def __init__(self, network: nn.Module, keep: float):
        self.keep = keep
        self._learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._mean = {name: p.detach().clone() for name, p in self._learning.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the weights after so many steps."""
        keep = min(self.keep, (1 + step) / (WARM_UP + step))
        for name, tensor in self._learning.items():
            self._mean[name].lerp_(tensor, 1 - keep)

    @contextmanager
    @torch.no_grad()
    def in_place(self) -> Iterator[None]:
        """Let the network hold the average for as long as the block lasts."""
        own = {name: tensor.clone() for name, tensor in self._learning.items()}
        try:
            self._fill(self._mean)
            yield
        finally:
            self._fill(own)

    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._learning.items():
            tensor.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """Return the average, for a checkpoint."""
        return self._mean

    def load(self, state: dict[str, Tensor]) -> None:
        """Take over the average of a checkpoint.

        Raises:
            KeyError: it lacks a tensor.
        """
        for name, tensor in self._mean.items():
            tensor.copy_(state[name])
