"""Measure the time (``speed``) or the peak memory (``memory``) of methods, in evaluation episodes and training steps.

On a GPU ``speed`` tells how long a pass takes, how long the GPU is busy in it, its kernels and its memory.

``NET`` in the environment is an encoder, such as resnet101; ``OMP_NUM_THREADS`` the threads of the CPU.

Networks have random weights and images are noise with a brighter rectangle of an eighth of the image: costs depend on
neither, but on the share of the image that the object covers. Every case runs in a fresh process.
"""

import argparse
import contextlib
import copy
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.contract import Trainable
from model.encode import Method
from model.encoders.resnet import ResNetEncoder
from model.episode import Episode
from model.registry import class_of, models
from model.tensors.ops import normalise
from util import cli
from util.config.command_line import add_overrides
from util.config.compose import find_config
from util.config.read import read_config
from util.report.table import Table, add_format
from util.run.device import CUDA, describe, pick_device, precision_of_test, precision_of_training
from util.run.network import prepare_network
from util.train.benchmark_pass import BenchmarkPass
from util.train.gradients import backward

BATCH = {"evaluation": [1], "training": [4]}  # sizes for each stage
BATCH_ON_GPU = {"evaluation": [1, 8], "training": [8]}
GPU = "speed on a GPU"
REPEATS = 5  # measured rounds
WARM_UP = 5  # passes, in which libraries choose their kernels
COLUMNS = {
    "speed": {"s": "seconds", "images": "units", "s of an image": "unit_seconds", "encoder, images": "encoder_units"},
    GPU: {"ms": "ms", "busy ms": "busy_ms", "kernels": "kernels", "MiB above network and episode": "mib"},
    "memory": {"MiB above network and episode": "mib", "MiB of the process": "peak_mib"},
}


def command() -> int:
    """Measure the cases of the command line, print the table and return 0."""
    options = _options()
    device = pick_device(options.device)
    conditions = _conditions(device)
    on_card = device.type == CUDA
    what = GPU if on_card and options.what == "speed" else options.what
    columns = COLUMNS[what]
    rows = []
    for case in _cases(options, BATCH_ON_GPU if what == GPU else BATCH):
        print(case, file=sys.stderr, flush=True)
        with get_context("spawn").Pool(1) as pool:  # inherits no memory
            measured = pool.apply(MEASURES[what], (case, options))
        rows.append([str(case), *(f"{measured[key]:.2f}" for key in columns.values())])
    print("; ".join(f"{key} {value}" for key, value in conditions.items()))
    print(format(Table(["case", *columns], rows), options.format))
    return 0


def _options() -> argparse.Namespace:
    parser = cli.Parser(prog="python -m benchmark", description=__doc__)
    add = parser.add_argument
    add("what", choices=["speed", "memory"])
    add("--models", default="", help="such as symnet,ssp; default all with an encoder")
    add("--shot", type=cli.numbers, default="1,5", help="shots of the evaluation episodes; default 1,5")
    add("--stages", nargs="+", choices=[*BATCH], default=[*BATCH], help="default both")
    add_overrides(parser)
    add("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    add_format(parser)
    return parser.parse_args()


def _conditions(device: torch.device) -> dict[str, Any]:
    """Return the conditions of a measurement, by name."""
    facts = Path("/proc/cpuinfo")  # Linux
    processor = re.search(r"model name\s*: (.*)", facts.read_text()) if facts.exists() else None
    return {
        "machine": f"{processor[1] if processor else platform.machine()}, {os.cpu_count()} cores",
        "device": describe(device),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _cases(options: argparse.Namespace, batches: dict[str, list[int]]) -> list[BenchmarkPass]:
    """Return the cases of a command line, every config of them read."""
    with_encoder = [name for name, kind in models().items() if issubclass(kind, Method)]
    stages_and_shots = [*(("evaluation", shot) for shot in options.shot), ("training", 1)]
    cases = list[BenchmarkPass]()
    for name in cli.comma_separated(options.models) or with_encoder:
        source = find_config("split0", "pascal", name, os.environ.get("NET") or None)
        for stage, shot in stages_and_shots:
            config = read_config(source, [*options.overrides, f"data.shot={shot}", "data.text=none"])
            trains = stage == "training"
            is_possible = class_of(config.model).learns or not trains
            if stage in options.stages and is_possible:
                sizes = batches[stage]
                cases += [BenchmarkPass(config, size, base=False, trains=trains) for size in sizes]
    return cases


def prepared(case: BenchmarkPass, options: argparse.Namespace) -> tuple[Trainable, Episode, Callable[[], object]]:
    """Set this process up as a command does, and return network, episodes and one pass over them."""
    cli.configure_process(case.trains)
    device = pick_device(options.device)
    settings = case.config.run
    network = case.network(device)
    episode = case.episodes(device)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # with 1 the maps of random residual networks grow from block to block
            nn.init.constant_(module.weight, 0.5)

    precision_of = precision_of_training if case.trains else precision_of_test
    precision = precision_of(case.config, device)
    prepared = prepare_network(network, device, precision, settings.compile)
    scaler = torch.amp.GradScaler(device.type, enabled=prepared.precision == "fp16")

    def run() -> None:
        network.train(case.trains)
        if not case.trains:
            with torch.inference_mode():
                prepared.predict([episode])
        else:
            backward(prepared, scaler, episode, weight=1, last=True)
        network.zero_grad(set_to_none=True)
        network.eval()

    return network, episode, run


def seconds(case: BenchmarkPass, options: argparse.Namespace) -> dict[str, float]:
    """Return seconds and units of an episode, the median over rounds in which all take turns.

    A unit is one image through the method's encoder, a residual one as torchvision computes it: convolution, norm and
    ReLU one after the other. ``encoder_units`` is the same image through the encoder as it is.
    """
    network, episode, run = prepared(case, options)
    image = normalise(episode.query[:1])
    encoder = getattr(network, "encoder", None)
    passes: list[Callable[[], object]] = [run]
    if encoder is not None:
        unit = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)
        if isinstance(unit, ResNetEncoder):  # others are so already
            unit = partial(_plain_map, unit)
        passes += [torch.inference_mode()(lambda: encoder(image)), torch.inference_mode()(lambda: unit(image))]
    times = np.full((REPEATS + 1, 3), np.nan)  # rounds; episode, encoder, unit
    for round_times in times:
        for i, one_pass in enumerate(passes):
            round_times[i] = _seconds_of(one_pass)
    times[:, 0] /= case.batch
    episode_seconds, encoder_seconds, unit_seconds = times[1:].T  # without the first round, which warms up
    return {
        "seconds": float(np.median(episode_seconds)),
        "units": float(np.median(episode_seconds / unit_seconds)),
        "unit_seconds": float(np.median(unit_seconds)),
        "encoder_units": float(np.median(encoder_seconds / unit_seconds)),
    }


def _plain_map(encoder: Any, x: Tensor) -> Tensor:
    """Return the map of a ResNet's last stage, computed layer by layer."""
    x = encoder.stage(0)(x)
    for number in range(1, encoder.last_stage + 1):
        for block in encoder.stage(number):
            shortcut = x if block.downsample is None else block.downsample(x)
            x = F.relu(block.bn1(block.conv1(x)), inplace=True)
            x = block.bn2(block.conv2(x))
            if hasattr(block, "conv3"):
                x = block.bn3(block.conv3(F.relu(x, inplace=True)))
            x = F.relu(x.add_(shortcut), inplace=True)
    return x


def _seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of a call, with all that it starts on a GPU."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def on_gpu(case: BenchmarkPass, options: argparse.Namespace) -> dict[str, float]:
    """Return milliseconds of a pass and of its kernels, by episode, their number, and the peak of memory in MiB."""
    _, _, run = prepared(case, options)
    for _ in range(WARM_UP):
        run()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    times = [_seconds_of(run) for _ in range(REPEATS)]
    peak = torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        run()
        torch.cuda.synchronize()
    kernels = [event for event in profile.events() if event.device_type == torch.autograd.DeviceType.CUDA]
    busy_ms = sum(kernel.device_time for kernel in kernels) / 1e3  # of microseconds
    return {
        "ms": 1e3 * float(np.median(times)) / case.batch,
        "busy_ms": busy_ms / case.batch,
        "kernels": float(len(kernels)),
        "mib": peak / 2**20,
    }


def peak_memory(case: BenchmarkPass, options: argparse.Namespace) -> dict[str, float]:
    """Return the peak of a pass in MiB above network and episodes, and the whole: of the process, on a GPU of torch."""
    _, episode, run = prepared(case, options)
    if episode.query.is_cuda:
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / 2**20
        run()
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
        before = _mib_of_process("VmRSS")
        run()
        peak = _mib_of_process("VmHWM")
    return {"mib": peak - before, "peak_mib": peak}


def _mib_of_process(name: str) -> float:
    """Return a figure of this process's memory as Linux names it."""
    facts = Path("/proc/self/status").read_text()
    kib = facts.partition(f"{name}:")[2].split()[0]
    return int(kib) / 2**10


MEASURES: dict[str, Callable[[BenchmarkPass, argparse.Namespace], dict[str, float]]] = {
    "speed": seconds,
    GPU: on_gpu,
    "memory": peak_memory,
}
