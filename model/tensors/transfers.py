"""Transfers from and to a GPU, as few as possible: Python waits for each, but for a copy from pinned memory."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


def to_cpu(nested: Any) -> Any:
    """Return nested lists of one device's tensors on the CPU, in one transfer."""
    flat: list[Tensor] = []

    def each(value: Any, change: Callable[[Tensor], Any]) -> Any:
        if isinstance(value, (list, tuple)):
            return [each(x, change) for x in value]
        return change(value) if isinstance(value, Tensor) else value

    each(nested, flat.append)
    if all(x.is_cpu for x in flat):
        return nested
    parts = [x.contiguous().flatten().view(torch.uint8) for x in flat]
    sizes = [len(part) for part in parts]
    host = iter(torch.cat(parts).cpu().split(sizes))
    return each(nested, lambda x: next(host).clone().view(x.dtype).view(x.shape))


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on a device; a GPU fetches it from pinned memory, while Python goes on."""
    return x.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else x.to(device)
