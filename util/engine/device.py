"""Devices, precision and random state: the one place that picks a device."""

from __future__ import annotations

import contextlib
import ctypes
import os
import zlib

import torch

from util.errors import UserError

CUDA = "cuda"
OUT_OF_MEMORY = (MemoryError, torch.cuda.OutOfMemoryError)

# Read by torch before its first tensor: large ones lie in large pages where the system has them. A CPU's encoder
# spends a sixth of its time on page faults otherwise, since the maps of a batch go back to the system layer by layer.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
# For the same reason glibc is told to keep what is freed, and to take maps below 6 MiB from it (mallopt's
# M_TRIM_THRESHOLD and M_MMAP_THRESHOLD). Larger ones go back to the system: kept as well, up to the 32 MiB that glibc
# allows, they save no time, and what they leave behind in pieces makes an episode of Sym-Net take half as much again.
MMAP_THRESHOLD, TRIM_THRESHOLD = (-3, 6 * 2**20), (-1, 256 * 2**20)
with contextlib.suppress(OSError, AttributeError, TypeError):  # another C library
    for option in (MMAP_THRESHOLD, TRIM_THRESHOLD):
        ctypes.CDLL(None).mallopt(*option)


def gpu_count() -> int:
    """Return how many GPUs this machine has."""
    return torch.cuda.device_count()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``run.device`` names; process ``local_rank`` takes the GPU of that number.

    Raises:
        UserError: the device is unknown or not there.
    """
    if name == "auto":
        name = CUDA if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"run.device = {name!r} is not a device; use auto, cpu, cuda or cuda:<number>") from None
    if device.type == CUDA:
        have = gpu_count()
        index = local_rank if device.index is None else device.index
        if index >= have:
            raise UserError(f"GPU {index} was asked for, but this machine has {have}; ask for fewer, or 0 for the CPU")
        device = torch.device(CUDA, index)
        torch.cuda.set_device(device)
    elif device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError("run.device = mps, but this machine has no such device; use cpu")
    return device


def places(device: torch.device, processes: int) -> list[torch.device]:
    """Return where so many processes of one machine run: on GPUs each on the next one, else all on ``device``."""
    if device.type != CUDA:
        return [device] * processes
    return [torch.device(CUDA, i % gpu_count()) for i in range(processes)]


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass: bf16 where ``run.precision`` says so, else plain float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Set torch's random state to that of a training step, a pure function of (seed, step, rank).

    With it dropout needs no state in checkpoints: a resumed run draws what the unbroken one would have drawn.
    """
    torch.manual_seed(zlib.crc32(f"{seed} {step} {rank}".encode()))


def describe(device: torch.device) -> str:
    """Return the device in words, for logs and results."""
    if device.type == CUDA:
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
