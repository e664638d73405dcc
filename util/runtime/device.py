"""Devices and their arithmetic; the only module that picks a device or a precision."""

import logging
import os
import re
from functools import cache
from pathlib import Path
from typing import Literal

import torch

from util.config.settings import Config
from util.errors import UserError

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
        if device.type not in KINDS:
            raise RuntimeError
    except RuntimeError:
        raise UserError(f"run.device = {name!r} is no device that computes; use auto, cpu, cuda or cuda:N") from None
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
    """Return whether a device computes bf16 faster than float32: compute capability 8, AMX, AMD with AVX-512 BF16.

    On a CPU both oneDNN's limit of instruction sets and the kernel's permission to use AMX count.
    """
    if device.type == CUDA:
        return has_tf32(device)
    if device.type != "cpu":
        return False
    limit = next((os.environ[name].upper() for name in ONEDNN_LIMITS if name in os.environ), "ALL")
    unlimited = limit in ("", "ALL", "DEFAULT")
    if (unlimited or "AMX" in limit) and torch.cpu._init_amx():
        return True
    allowed = unlimited or any(words in limit for words in ("BF16", "FP16", "AMX", "AVX10"))
    return allowed and torch.cpu._is_avx512_bf16_supported() and _is_amd()


def _is_amd() -> bool:
    """Return whether the processor is AMD's, whose AVX-512 BF16 is faster than its float32; Intel's is not."""
    facts = Path("/proc/cpuinfo")
    return facts.exists() and "AuthenticAMD" in facts.read_text()


def has_tf32(device: torch.device) -> bool:
    """Return whether a device has TF32 and bf16: GPUs of compute capability 8 (Ampere) or later."""
    return device.type == CUDA and torch.cuda.get_device_capability(device) >= (8, 0)


def precision_of_training(config: Config, device: torch.device) -> str:
    """Return the precision of a training and its validations on a device: float32, tf32, bf16 or fp16."""
    asked = config.run.precision
    if asked == "auto" and fast_bf16(device):
        return "bf16"
    if asked in (None, "auto", "tf32"):
        return "tf32" if has_tf32(device) else "float32"
    return asked


def precision_of_test(config: Config, device: torch.device) -> str:
    """Return the precision of tests, calibrations, predictions and exports on a device: as that of a training."""
    asked = precision_asked_of_test(config.run.precision, config.test.precision)
    return "float32" if asked == "tf32" and not has_tf32(device) else asked


def precision_asked_of_test(run: str | None, test: str | None) -> str:
    """Return the precision that ``run.precision`` and ``test.precision`` ask of a test; float32 if they name none."""
    asked = test or run
    return "float32" if asked in (None, "auto") else asked


def take_precision(precision: str, device: torch.device) -> None:
    """Let this process compute float32 as a precision has it: in full, or rounded where the rest is in 16 bits.

    TF32 keeps 10 bits of the operands of convolutions and matrix products on a GPU. So do the products that bf16 and
    fp16 leave in float32; on a CPU with fast bf16 those of bf16 keep its 7 bits.
    """
    on_gpu = device.type == CUDA
    if precision == "bf16" and not fast_bf16(device):
        other = "fp16" if on_gpu else "float32"
        log.warning("run.precision = bf16 is emulated or slow on this %s; %s is faster", describe(device), other)
    rounded = precision != "float32" and on_gpu
    inside = "high" if rounded else "highest"
    if precision == "bf16" and device.type == "cpu" and fast_bf16(device):
        inside = "medium"
    torch.set_float32_matmul_precision(inside)
    torch.backends.cudnn.allow_tf32 = rounded


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """Return the context of a forward pass at a resolved precision: automatic mixed precision in bf16 or fp16."""
    return torch.autocast(device.type, dtype=HALF.get(precision, torch.bfloat16), enabled=precision in HALF)


def compute_in_fixed_order() -> None:
    """Let this process take operators of a fixed order (``run.deterministic``); torch warns of those that have none."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.backends.cudnn.benchmark = False
