"""Part 1: the machine. GPU, driver, CUDA, cuDNN, torch, packages, processor, memory."""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import partial
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmark.gpu.settings import Settings
from benchmark.reporting import Table, cpu_model
from util.engine.device import CUDA, describe
from util.parallel import usable_cores

TITLE = "environment"
NEEDS: tuple[str, ...] = ()
SECONDS, CONTINUES = 30, False
GIB = 2**30
MEMINFO, TOTAL = Path("/proc/meminfo"), "MemTotal"
KIB_PER_GIB = 2**20
MACHINE = "machine"
PACKAGES = {  # module -> distribution
    "torchvision": "torchvision",
    "numpy": "numpy",
    "cv2": "opencv-python-headless",
    "yaml": "pyyaml",
    "tqdm": "tqdm",
    "scipy": "scipy",
    "timm": "timm",
    "safetensors": "safetensors",
    "gensim": "gensim",
    "pycocotools": "pycocotools",
    "tensorboardX": "tensorboardX",
    "simplejpeg": "simplejpeg",
    "pynvml": "nvidia-ml-py",
    "triton": "triton",
}


def units(settings: Settings) -> dict[str, Any]:
    """Return the one unit."""
    return {MACHINE: partial(_facts)}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return the facts as a table."""
    facts = results.get(MACHINE, {})
    return {"machine": (["fact", "value"], [[key, str(value)] for key, value in facts.items()])} if facts else {}


def _facts(settings: Settings) -> dict[str, Any]:
    device = settings.place
    facts: dict[str, Any] = {
        "device": describe(device),
        "torch": torch.__version__,
        "Python": platform.python_version(),
        "CUDA": torch.version.cuda,
        "cuDNN": torch.backends.cudnn.version(),
        "driver": _driver(),
        "processor": cpu_model(),
        "cores": usable_cores(),
        "memory GiB": _memory(),
        "TF32 in convolutions": torch.backends.cudnn.allow_tf32,
        "TF32 in matrix products": torch.backends.cuda.matmul.allow_tf32,
    }
    if device.type == CUDA:
        card = torch.cuda.get_device_properties(device)
        facts["compute capability"] = f"{card.major}.{card.minor}"
        facts["multiprocessors"] = card.multi_processor_count
        facts["GPU memory GiB"] = round(card.total_memory / GIB, 1)
        facts["GPU memory free GiB"] = round(torch.cuda.mem_get_info(device)[0] / GIB, 1)
        facts["bf16"] = torch.cuda.is_bf16_supported()
    return facts | {f"package {name}": _version(name) for name in PACKAGES}


def _driver() -> str | None:
    """Return the version of NVIDIA's driver by ``nvidia-smi``, None without it."""
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return None
    question = [tool, "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        answer = subprocess.run(question, capture_output=True, text=True, timeout=SECONDS)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip().splitlines()[0] if answer.returncode == 0 and answer.stdout.strip() else None


def _memory() -> float | None:
    """Return the machine's memory in GiB, None where the system does not say."""
    lines = MEMINFO.read_text().splitlines() if MEMINFO.exists() else []
    found = [int(line.split()[1]) / KIB_PER_GIB for line in lines if line.startswith(TOTAL)]
    return round(found[0], 1) if found else None


def _version(module: str) -> str:
    """Return the version of an installed package by its module's name."""
    if find_spec(module) is None:
        return "not installed"
    try:
        return metadata.version(PACKAGES[module])
    except metadata.PackageNotFoundError:
        return "installed"
