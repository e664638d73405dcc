"""The processes of a run: joining the group that ``torchrun`` started, communication, errors of the machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import cv2
import torch
from torch import Tensor, distributed
from torch.distributed import distributed_c10d

from util.files.errors import PeerLost, UserError, as_user_error, note
from util.files.launcher import FIX, OF_TORCHRUN, end_with_launcher, place_of_process
from util.loop.device import CUDA, compute_in_fixed_order, pick_device

# Phrases in the messages of torch's CPU allocator, cuDNN, cuBLAS and OpenCV when there is no memory, whose types are
# those of any other error.
NO_MEMORY = (
    *("can't allocate memory", "Cannot allocate memory", "not enough memory", "Insufficient memory", "out of memory"),
    *("STATUS_ALLOC_FAILED", "bad_alloc", "Storage size calculation overflowed", "could not create a memory object"),
)
MEETING = timedelta(minutes=5)  # that processes wait for each other at their start
PATIENCE = timedelta(hours=6)  # that they then wait for the first one, which may index a data set
WAIT_SECONDS = 4  # after which a process says for whom it waits

Made = TypeVar("Made")


@dataclass(frozen=True)
class ProcessGroup:
    """The rank of this process, the number of processes, and the device of this one."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and reports to the user."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> Tensor:
        """Return the sum of a tensor over processes (in place)."""
        if self.size > 1:
            distributed.all_reduce(tensor)
        return tensor

    def gather(self, value: Any) -> list[Any]:
        """Return the values of all processes, in the order of ranks."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        return values

    def wait(self) -> None:
        """Wait until all processes are here."""
        if self.size > 1:
            distributed.barrier()

    def from_main(self, make: Callable[[], Made]) -> Made:
        """Return in all processes the value that the main one makes; its UserError is raised in all of them."""
        made: Made | UserError | None = None
        if self.is_main:
            try:
                made = make()
            except UserError as error:
                made = error
        made = self.gather(made)[0]
        if isinstance(made, UserError):
            raise made
        return made

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        return any(self.gather(flag))


@contextmanager
def join(device_name: str, lower: str, fixed_order: bool = False) -> Iterator[ProcessGroup]:
    """Join the process group that the environment describes (``torchrun``); without one, the world is this process.

    ``fixed_order``: of operators, see ``compute_in_fixed_order``. UserError: its variables do not fit, or no such
    device; in the block, as ``explained_memory_errors(lower)``.
    """
    place = place_of_process()
    device = pick_device(device_name, place.local_rank)
    if fixed_order:
        compute_in_fixed_order()
    with explained_memory_errors(lower):
        if place.size == 1:
            yield ProcessGroup(0, 1, device)
            return
        others = f"the others of WORLD_SIZE = {place.size} processes at {place.meeting}"
        says_so = threading.Timer(WAIT_SECONDS, note, [f"waits for {others}; {FIX}"])
        says_so.daemon = True
        if place.rank == 0:
            says_so.start()
        if OF_TORCHRUN in os.environ:
            end_with_launcher()
        with as_user_error(RuntimeError, before=f"see why {others} ended or did not begin: "):
            backend, gpu = ("nccl", device) if device.type == CUDA else ("gloo", None)
            distributed.init_process_group(backend, timeout=MEETING, device_id=gpu)
            world = ProcessGroup(distributed.get_rank(), place.size, device)
            world.wait()
        says_so.cancel()
        set_timeout = getattr(distributed, "set_timeout", None) or distributed_c10d._set_pg_timeout  # before torch 2.14
        set_timeout(PATIENCE)
        yield world
        distributed.destroy_process_group()  # not after an error: it would wait for the other processes


@contextmanager
def explained_memory_errors(lower: str) -> Iterator[None]:
    """Raise the machine's errors in the block as errors of one line; all others pass unchanged.

    ``lower``: the settings that decide how much memory is needed, the most effective first. UserError: out of memory.
    PeerLost: the processes of the run cannot reach each other, mostly since one has ended.
    """
    try:
        yield
    except (RuntimeError, MemoryError, cv2.error, ConnectionError, TimeoutError) as error:
        text = " ".join(str(error).split())
        if isinstance(error, MemoryError) or any(phrase in text for phrase in NO_MEMORY):
            raise UserError(f"out of memory ({text.rstrip('. ')}); lower {lower}", local=True) from None
        if isinstance(error, distributed.DistError | ConnectionError | TimeoutError) or "gloo" in text:
            raise PeerLost(f"this process cannot reach the others of the run ({text})") from None
        raise
