"""Devices and their arithmetic; the only module that picks a device."""

import gc
import os
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from util.files.errors import UserError

CUDA = "cuda"
MOST_AT_ONCE = 8  # episodes of a test; more save no time
BYTES_OF_PIXEL = 2**12  # that a test needs for a pixel of an image, in the method that needs most
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}  # precision -> type of automatic mixed precision


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``run.device`` names; process ``local_rank`` takes the GPU of that number.

    ``auto`` is a GPU that works, else the CPU. UserError: the device is unknown, missing or does not work, as torch
    says it in its first sentence.
    """
    if name == "auto":
        name = CUDA if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type == CUDA:
            device = torch.device(CUDA, local_rank if device.index is None else device.index)
            torch.cuda.set_device(device)
        torch.ones(1, device=device)  # a kernel runs
    except (RuntimeError, AssertionError, ImportError) as error:  # as of a torch without CUDA
        reason = str(error).partition("\n")[0].partition(". ")[0]
        raise UserError(
            f"run.device = {name}, GPU {local_rank}: {reason}",
            fix="take the CPU: 0 in place of the number of GPUs, run.device=cpu, or --device cpu of predict.py",
            local=True,
        ) from None
    return device


def describe(device: torch.device) -> str:
    """Return the name of a device for logs and results: the GPU's, or cpu with its number of threads."""
    if device.type == CUDA:
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


def episodes_at_once(asked: int | Literal["auto"], device: torch.device, images: int, side: int) -> int:
    """Return ``test.batch`` on a device, for episodes of so many images of a side in pixels.

    ``auto`` is a number that takes half of a GPU's free memory at most.
    """
    if isinstance(asked, int):
        return asked
    if device.type != CUDA:
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    bytes_of_episode = images * side**2 * BYTES_OF_PIXEL
    return min(max(int(free / 2 / bytes_of_episode), 1), MOST_AT_ONCE)


@cache
def fast_bf16(device: torch.device) -> bool:
    """Return whether a device computes bf16 faster than float32: compute capability 8, AMX, AMD with AVX-512 BF16.

    On a CPU the kernel's permission to use AMX counts.
    """
    if device.type == CUDA:
        return has_tf32(device)
    if device.type != "cpu":
        return False
    return torch.cpu._init_amx() or (torch.cpu._is_avx512_bf16_supported() and _is_amd())


def _is_amd() -> bool:
    """Return whether the processor is AMD's, whose AVX-512 BF16 is faster than its float32; Intel's is not."""
    facts = Path("/proc/cpuinfo")
    return facts.exists() and "AuthenticAMD" in facts.read_text()


def has_tf32(device: torch.device) -> bool:
    """Return whether a device has TF32 and bf16: GPUs of compute capability 8 (Ampere) or later."""
    return device.type == CUDA and torch.cuda.get_device_capability(device) >= (8, 0)


def take_precision(precision: str, device: torch.device) -> None:
    """Let this process compute float32 in full, or in TF32 where a precision on a GPU has it.

    TF32 keeps 10 bits of the operands of convolutions and matrix products; so do the products that bf16 and fp16 leave
    in float32. On a CPU these are in full: most are of a vector with a map, which take longer in another type.
    """
    in_tf32 = device.type == CUDA and precision != "float32"
    torch.set_float32_matmul_precision("high" if in_tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = in_tf32


def free_memory(device: torch.device) -> None:
    """Give back what a network that is no longer used held."""
    gc.collect()
    if device.type == CUDA:
        torch.cuda.empty_cache()


def compute_in_fixed_order() -> None:
    """Let this process take operators of a fixed order (``run.deterministic``); torch warns of those that have none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
