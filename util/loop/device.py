"""Devices and their arithmetic; the only module that picks a device."""

import gc
import logging
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from util.files.errors import UserError

log = logging.getLogger("symnet")
CUDA = "cuda"
MOST_AT_ONCE = 8  # episodes of a test; more save no time
BYTES_OF_PIXEL = 2**12  # that a test needs for a pixel of an image, in the method that needs most
HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}  # precision -> type of automatic mixed precision
ONEDNN_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA")  # the first that is set limits its instruction sets
KINDS = ("cpu", CUDA, "mps", "xpu")  # that compute; torch also has ones that hold no values, such as "meta"


def gpu_count() -> int:
    """Return the number of GPUs of this machine."""
    return torch.cuda.device_count()


def gpu_problem() -> str:
    """Explain why this machine's GPUs cannot be used; '' if they can, or if it has none."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        has_driver = Path("/proc/driver/nvidia").exists()
        return f"torch {torch.__version__} is built without CUDA" if has_driver else ""
    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())
        is_absent = "Found no NVIDIA driver" in reason
        return "" if is_absent else reason
    return ""


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device that ``run.device`` names; process ``local_rank`` takes the GPU of that number.

    ``auto`` is a GPU that works, else the CPU; a GPU that does not work is named in the log. UserError: the device is
    unknown or missing.
    """
    if name == "auto":
        name = _automatic_device()
    device = _device_that_computes(name)
    index = local_rank if device.index is None else device.index
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise _too_few_gpus(name, index)
    if device.type != CUDA:
        return device
    problem = gpu_problem()
    if problem:
        raise UserError(f"run.device = {name}: {problem}")
    if index >= gpu_count():
        raise _too_few_gpus(name, index)
    device = torch.device(CUDA, index)
    torch.cuda.set_device(device)
    return device


def _automatic_device() -> str:
    """Return the name of a GPU that works, else of the CPU."""
    problem = gpu_problem()
    if problem:
        log.warning("run.device = auto takes the CPU: %s", problem)
        return "cpu"
    return CUDA if torch.cuda.is_available() else "cpu"


def _device_that_computes(name: str) -> torch.device:
    with suppress(RuntimeError):  # an unknown name
        device = torch.device(name)
        if device.type in KINDS:
            return device
    raise UserError(f"run.device = {name!r} is no device that computes; use auto, cpu, cuda or cuda:N")


def _too_few_gpus(name: str, index: int) -> UserError:
    return UserError(f"run.device = {name}, GPU {index}: this machine has {gpu_count()}; ask for fewer, or for cpu")


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

    On a CPU both oneDNN's limit of instruction sets and the kernel's permission to use AMX count.
    """
    if device.type == CUDA:
        return has_tf32(device)
    if device.type != "cpu":
        return False
    if _onednn_may_use("AMX") and torch.cpu._init_amx():
        return True
    may_use_bf16 = _onednn_may_use("BF16", "FP16", "AMX", "AVX10")
    return may_use_bf16 and torch.cpu._is_avx512_bf16_supported() and _is_amd()


def _onednn_may_use(*instructions: str) -> bool:
    """Return whether oneDNN's limit of instruction sets is absent or names one of these."""
    limit = next((os.environ[name].upper() for name in ONEDNN_LIMITS if name in os.environ), "ALL")
    return limit in ("", "ALL", "DEFAULT") or any(name in limit for name in instructions)


def _is_amd() -> bool:
    """Return whether the processor is AMD's, whose AVX-512 BF16 is faster than its float32; Intel's is not."""
    facts = Path("/proc/cpuinfo")
    return facts.exists() and "AuthenticAMD" in facts.read_text()


def has_tf32(device: torch.device) -> bool:
    """Return whether a device has TF32 and bf16: GPUs of compute capability 8 (Ampere) or later."""
    return device.type == CUDA and torch.cuda.get_device_capability(device) >= (8, 0)


def take_precision(precision: str, device: torch.device) -> None:
    """Let this process compute float32 as a precision has it: in full, or rounded where the rest is in 16 bits.

    TF32 keeps 10 bits of the operands of convolutions and matrix products on a GPU. So do the products that bf16 and
    fp16 leave in float32; on a CPU with fast bf16 those of bf16 keep its 7 bits.
    """
    on_gpu = device.type == CUDA
    has_fast_bf16 = precision == "bf16" and fast_bf16(device)
    if precision == "bf16" and not has_fast_bf16:
        faster = "fp16" if on_gpu else "float32"
        log.warning("run.precision = bf16 is emulated or slow on this %s; %s is faster", describe(device), faster)
    in_tf32 = on_gpu and precision != "float32"
    if in_tf32:
        matmul_precision = "high"
    elif has_fast_bf16 and device.type == "cpu":
        matmul_precision = "medium"
    else:
        matmul_precision = "highest"
    torch.set_float32_matmul_precision(matmul_precision)
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
