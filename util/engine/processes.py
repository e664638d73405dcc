"""One process or many: joining the group that ``torchrun`` started, and the few things processes tell each other."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed

from util.engine.device import CUDA, pick_device
from util.engine.errors import as_user_error


@dataclass(frozen=True)
class World:
    """Where this process stands among all."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum over processes (in place)."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in the order of ranks."""
        if self.size == 1:
            return [value]
        out: list[Any] = [None] * self.size
        distributed.all_gather_object(out, value)
        return out

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process go first (and fill a cache) while the others wait."""
        if self.size > 1 and not self.is_main:
            distributed.barrier()
        yield
        if self.size > 1 and self.is_main:
            distributed.barrier()

    def any(self, flag: bool) -> bool:
        """Return whether any process says yes."""
        if self.size == 1:
            return flag
        return bool(self.sum(torch.tensor([int(flag)], device=self.device)).item())


@contextmanager
def join(device_name: str, lower: str) -> Iterator[World]:
    """Enter the process group that the environment describes (``torchrun``), or a world of one.

    Args:
        lower: the settings that decide how much memory is needed, for whoever runs out of it.

    Raises:
        UserError: no such device; or inside, no memory left or another process gone.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    device = pick_device(device_name, int(os.environ.get("LOCAL_RANK", "0")))
    with as_user_error(lower):
        if size == 1:
            yield World(0, 1, device)
            return
        distributed.init_process_group("nccl" if device.type == CUDA else "gloo")
        yield World(distributed.get_rank(), size, device)
        distributed.destroy_process_group()  # not after an error: one that failed alone would wait for the others
