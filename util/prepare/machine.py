"""Checks of this machine: versions of Python and torch, GPUs, CPU cores."""

from __future__ import annotations

import platform
import sys
from importlib import metadata

import torch

from util.parallel import usable_cores
from util.prepare.findings import Finding
from util.run.device import gpu_count

GIGABYTE = 1e9
OLDEST_PYTHON, OLDEST_TORCH = (3, 10), (2, 4)
INSTALL = "python -m pip install --upgrade -r requirements.txt"


def check_machine() -> list[Finding]:
    """Return the findings about Python, torch, GPUs and cores."""
    return [_python(), _torch(), *_gpus(), Finding("cores", True, f"{usable_cores()} usable")]


def _python() -> Finding:
    fine = sys.version_info[:2] >= OLDEST_PYTHON
    return Finding("Python", fine, platform.python_version(), "" if fine else "install Python 3.10 or later")


def _torch() -> Finding:
    version = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2])
    says = f"{torch.__version__}, torchvision {_version('torchvision')}"
    try:
        import torchvision  # noqa: F401  fails if its version does not match torch's
    except (ImportError, RuntimeError, OSError) as error:
        return Finding("torch", False, f"{says}: torchvision does not load ({error})", INSTALL)
    return Finding("torch", version >= OLDEST_TORCH, says, "" if version >= OLDEST_TORCH else INSTALL)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def _gpus() -> list[Finding]:
    if not torch.cuda.is_available():
        why = "torch is built without CUDA" if torch.version.cuda is None else "no CUDA device is available"
        return [Finding("GPU", True, f"none ({why}); runs use the CPU: sh train.sh ... 0")]
    out = [Finding("CUDA", True, f"{torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}")]
    for number in range(gpu_count()):
        facts = torch.cuda.get_device_properties(number)
        out.append(Finding(f"GPU {number}", True, f"{facts.name}, {facts.total_memory / GIGABYTE:.0f} GB"))
    return out
