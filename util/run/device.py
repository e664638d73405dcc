"""Devices and their arithmetic; the only module that picks a device or a precision."""

import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from util.errors import UserError

log = logging.getLogger("symnet")
CUDA = "cuda"
MOST_AT_ONCE = 8  # episodes of a test; more save no time
BYTES_OF_PIXEL = 2**12  # that a test needs for a pixel of an image, in the method that needs most
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}  # run.precision -> type of automatic mixed precision


def gpu_count() -> int:
    """Return the number of GPUs of this machine."""
    return torch.cuda.device_count()


def gpu_problem(index: int = 0) -> str:
    """Return in words why the GPU of that number cannot be used; '' if it can, or if the machine has no such GPU."""
    if not torch.cuda.is_available():
        if torch.version.cuda is None:
            return f"torch {torch.__version__} is built without CUDA" if Path("/proc/driver/nvidia").exists() else ""
        try:
            torch.cuda.init()
        except (RuntimeError, AssertionError) as error:
            reason = " ".join(str(error).split())
            return "" if "Found no NVIDIA driver" in reason else reason  # no card
        return ""
    if index >= gpu_count():
        return ""
    built = [re.match(r"(sm|compute)_(\d+)(\d)", arch) for arch in torch.cuda.get_arch_list() if torch.version.cuda]
    card = torch.cuda.get_device_capability(index)
    kernels = [(kind, (int(major), int(minor))) for kind, major, minor in (match.groups() for match in built if match)]
    if not kernels or any(at <= card and (kind == "compute" or at[0] == card[0]) for kind, at in kernels):
        return ""
    name, oldest = torch.cuda.get_device_name(index), ".".join(map(str, min(at for _, at in kernels)))
    lacks = f"no kernels for {name} (compute capability {card[0]}.{card[1]}; the oldest is {oldest})"
    return f"torch {torch.__version__} has {lacks}: install a torch for it, see Install in README.md"


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``run.device`` names; process ``local_rank`` takes the GPU of that number.

    ``auto`` is a GPU that works, else the CPU; a GPU that does not work is named in the log. UserError: the device is
    unknown, missing or of no use to this torch.
    """
    if name == "auto":
        if problem := gpu_problem(local_rank):
            log.warning("run.device = auto takes the CPU: %s", problem)
        name = CUDA if torch.cuda.is_available() and not problem else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise UserError(f"run.device = {name!r} is not a device; use auto, cpu, cuda or cuda:<number>") from None
    index = local_rank if device.index is None else device.index
    if device.type == CUDA and (problem := gpu_problem(index)):
        raise UserError(f"run.device = {name}: {problem}")
    no_mps = device.type == "mps" and not torch.backends.mps.is_available()
    if no_mps or (device.type == CUDA and index >= gpu_count()):
        raise UserError(f"run.device = {name}, GPU {index}: this machine has {gpu_count()}; ask for fewer, or for cpu")
    if device.type == CUDA:
        device = torch.device(CUDA, index)
        torch.cuda.set_device(device)
    return device


def describe(device: torch.device) -> str:
    """Return the name of a device for logs and results: the GPU's, or cpu with its number of threads."""
    on_gpu = device.type == CUDA
    return torch.cuda.get_device_name(device) if on_gpu else f"{device.type} ({torch.get_num_threads()} threads)"


def episodes_at_once(asked: int | Literal["auto"], device: torch.device, images: int, side: int) -> int:
    """Return ``test.batch`` on a device, for episodes of so many images of a side in pixels.

    ``auto`` is a number that takes half of a GPU's free memory at most.
    """
    if isinstance(asked, int):
        return asked
    if device.type != CUDA:
        return 1
    free, _ = torch.cuda.mem_get_info(device)
    return min(max(int(free / 2 / (images * side**2 * BYTES_OF_PIXEL)), 1), MOST_AT_ONCE)


@cache
def fast_bf16(device: torch.device) -> bool:
    """Return whether a device computes bf16 faster than float32: compute capability 8, AMX, AMD with AVX-512 BF16."""
    if device.type == CUDA:
        return torch.cuda.get_device_capability(device) >= (8, 0)
    facts = Path("/proc/cpuinfo")
    said = facts.read_text() if device.type == "cpu" and facts.exists() else ""
    return " amx_bf16" in said or (" avx512_bf16" in said and "AuthenticAMD" in said)


def resolved(precision: str, device: torch.device) -> str:
    """Return what ``run.precision`` is on a device: ``auto`` is bf16 where that is fast; TF32 is of GPUs alone."""
    if precision == "auto" and fast_bf16(device):
        return "bf16"
    return "float32" if precision == "auto" or (precision == "tf32" and device.type != CUDA) else precision


def take_precision(precision: str, device: torch.device) -> str:
    """Return what ``run.precision`` is on a device, and let this process's float32 be full float32, or TF32 by it.

    TF32 keeps 10 bits of the operands of convolutions and matrix products on GPUs of compute capability 8.
    """
    chosen = resolved(precision, device)
    if chosen == "bf16" and not fast_bf16(device):
        other = "fp16" if device.type == CUDA else "auto"
        log.warning("run.precision = bf16 is emulated or slow on this %s; %s is faster", describe(device), other)
    torch.set_float32_matmul_precision("high" if chosen == "tf32" else "highest")
    torch.backends.cudnn.allow_tf32 = chosen == "tf32"
    return chosen


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass at a resolved precision: automatic mixed precision in bf16 or fp16."""
    return torch.autocast(device.type, dtype=HALF.get(precision, torch.bfloat16), enabled=precision in HALF)


def compute_in_fixed_order() -> None:
    """Let this process take operators of a fixed order (``run.deterministic``); torch warns of those that have none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
