"""The free memory of a device: of a GPU, or of the machine within the limit of its container."""

from __future__ import annotations

from pathlib import Path

import torch

from util.engine.device import CUDA

MEMINFO, AVAILABLE = Path("/proc/meminfo"), "MemAvailable:"
CONTAINER = Path("/sys/fs/cgroup")
LIMIT, USED = "memory.max", "memory.current"
KIB = 2**10


def free_bytes(device: torch.device, meminfo: Path = MEMINFO, container: Path = CONTAINER) -> int:
    """Return the bytes that are free on a device; 0 where the system does not say."""
    if device.type == CUDA:
        return torch.cuda.mem_get_info(device)[0]
    lines = (line.split() for line in _text(meminfo).splitlines())
    free = next((int(words[1]) * KIB for words in lines if words[:1] == [AVAILABLE]), 0)
    limit, used = (_text(container / name).strip() for name in (LIMIT, USED))
    return min(free, max(int(limit) - int(used), 0)) if limit.isdigit() and used.isdigit() else free


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
