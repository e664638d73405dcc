"""The exponential moving average of the learned weights, which is steadier than the weights of any one step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

WARM_UP = 10  # the decay is at most (1 + step) / (WARM_UP + step), so that early weights are soon forgotten


class EMA:
    """The exponential moving average of a network's trainable parameters; buffers stay the network's own.

    Args:
        decay: share of the average that stays in each step; about 1 / (1 - decay) steps count.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._learning.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after so many steps to the average."""
        decay = min(self.decay, (1 + step) / (WARM_UP + step))
        for name, tensor in self._learning.items():
            self._average[name].lerp_(tensor, 1 - decay)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Replace the network's weights by the average inside the block."""
        own = {name: tensor.clone() for name, tensor in self._learning.items()}
        try:
            self._fill(self._average)
            yield
        finally:
            self._fill(own)

    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._learning.items():
            tensor.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """Return the average, for a checkpoint."""
        return self._average

    def load(self, state: dict[str, Tensor]) -> None:
        """Replace the average by that of a checkpoint.

        Raises:
            KeyError: it lacks a tensor.
        """
        for name, tensor in self._average.items():
            tensor.copy_(state[name])
