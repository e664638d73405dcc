"""Devices and precision; the only module that picks a device."""

import torch

from util.errors import UserError

CUDA = "cuda"


def gpu_count() -> int:
    """Return the number of GPUs of this machine."""
    return torch.cuda.device_count()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``run.device`` names; process ``local_rank`` takes the GPU of that number.

    Raises:
        UserError: the device is unknown or missing.
    """
    if name == "auto":
        name = CUDA if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"run.device = {name!r} is not a device; use auto, cpu, cuda or cuda:<number>") from None
    index = local_rank if device.index is None else device.index
    if (device.type == CUDA and index >= gpu_count()) or (
        device.type == "mps" and not torch.backends.mps.is_available()
    ):
        raise UserError(f"run.device = {name}, GPU {index}: this machine has {gpu_count()}; ask for fewer, or for cpu")
    if device.type == CUDA:
        device = torch.device(CUDA, index)
        torch.cuda.set_device(device)
    return device


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass at ``run.precision``: bf16 automatic mixed precision, or float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def describe(device: torch.device) -> str:
    """Return the name of a device for logs and results: the GPU's, or cpu with its number of threads."""
    if device.type == CUDA:
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"
