"""Measure time and peak memory of methods, in evaluation episodes and training steps, each in a fresh process.

``NET`` in the environment is an encoder, such as resnet101; ``OMP_NUM_THREADS`` the threads of the CPU. Weights are
random and images are noise with a brighter rectangle: costs depend on neither, but on the share that an object covers.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import nn

from model.episode import Episode
from model.registry import class_of
from util import cli
from util.config.command_line import add_overrides
from util.config.compose import find_config, has_encoder
from util.config.folder import methods
from util.config.read import read_config
from util.config.settings import Config
from util.report.table import Table, add_format
from util.run.device import CUDA, describe, pick_device, precision_of_test, precision_of_training
from util.run.network import build_model, prepare_network
from util.train.trainer import backward

BATCH = {"evaluation": 1, "training": 4}
WARM_UP = 2  # passes, in which libraries choose their kernels
REPEATS = 5


@dataclass(frozen=True)
class Case:
    """A pass of a network over a batch of episodes: a training step without the optimiser, or an evaluation."""

    config: Config
    stage: str  # of BATCH

    def __str__(self) -> str:
        config = self.config
        method = " ".join(filter(None, (class_of(config.model).title, config.model.backbone())))
        return f"{method}, {config.data.size} px, {config.data.shot}-shot {self.stage}, batch {BATCH[self.stage]}"


def command() -> int:
    """Measure the cases of the command line, print the table and return 0."""
    parser = cli.Parser(prog="python -m util.launch.benchmark", description=__doc__)
    parser.add_argument("--models", default="", help="such as symnet,ssp; default all with an encoder")
    parser.add_argument("--shot", type=cli.numbers, default="1,5", help="of the evaluation episodes; default 1,5")
    add_overrides(parser)
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    add_format(parser)
    options = parser.parse_args()
    rows = []
    for case in _cases(options):
        print(case, file=sys.stderr, flush=True)
        with get_context("spawn").Pool(1) as pool:  # inherits no memory
            milliseconds, mib = pool.apply(measured, (case, options.device))
        rows.append([str(case), f"{milliseconds:.2f}", f"{mib:.1f}"])
    print(f"{platform.machine()}, {os.cpu_count()} cores; {describe(pick_device(options.device))}; {torch.__version__}")
    print(format(Table(["case", "ms", "MiB above network and episodes"], rows), options.format))
    return 0


def _cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases of a command line, every config of them read."""
    cases = list[Case]()
    for name in cli.comma_separated(options.models) or filter(has_encoder, methods()):
        source = find_config("split0", "pascal", name, os.environ.get("NET") or None)
        for stage, shot in [*(("evaluation", shot) for shot in options.shot), ("training", 1)]:
            config = read_config(source, [*options.overrides, f"data.shot={shot}", "data.text=none"])
            if class_of(config.model).learns or stage == "evaluation":
                cases.append(Case(config, stage))
    return cases


def prepared(case: Case, device: torch.device) -> Callable[[], object]:
    """Set this process up as a command does, and return one pass of a network over its batch."""
    trains = case.stage == "training"
    cli.configure_process(trains)
    network = build_model(case.config, text_width=300 if class_of(case.config.model).reads_text else 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # with 1 the maps of random residual networks grow from block to block
            nn.init.constant_(module.weight, 0.5)
    precision = (precision_of_training if trains else precision_of_test)(case.config, device)
    ready = prepare_network(network.train(trains), device, precision, case.config.run.compile)
    episodes = _episodes(case).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def run() -> None:
        if trains:
            backward(ready, scaler, episodes, weight=1, last=True)
            network.zero_grad(set_to_none=True)
            return
        with torch.inference_mode():
            ready.predict([episodes])

    return run


def _episodes(case: Case) -> Episode:
    """Return a batch of noise with a brighter rectangle as the object of each image."""
    random = torch.Generator().manual_seed(0)
    size = case.config.data.size
    shape = BATCH[case.stage], case.config.data.shot + 1
    labels = torch.zeros(*shape, size, size, dtype=torch.uint8)
    labels[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
    images = torch.randint(0, 128, (*shape, 3, size, size), dtype=torch.uint8, generator=random)
    images += 100 * labels.unsqueeze(2)
    ids = torch.ones(shape[0], dtype=torch.int64)
    text = torch.randn(shape[0], 300, generator=random)
    return Episode(
        images[:, 0], labels[:, 0], images[:, 1:], labels[:, 1:], ids, ids, ids, labels[:, 0].clone(), text=text
    )


def measured(case: Case, device_name: str) -> tuple[float, float]:
    """Return milliseconds of a pass by episode, the median, and its peak of memory in MiB beside network and batch."""
    device = pick_device(device_name)
    run = prepared(case, device)
    before, _ = _memory(device)
    run()
    _, peak = _memory(device)
    times = [_seconds_of(run) for _ in range(WARM_UP + REPEATS)][WARM_UP:]
    return 1e3 * float(np.median(times)) / BATCH[case.stage], peak - before


def _seconds_of(call: Callable[[], object]) -> float:
    """Return the seconds of a call, with all that it starts on a GPU."""
    start = time.perf_counter()
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _memory(device: torch.device) -> list[float]:
    """Return the MiB that are used and the most since the call before: of the process, or of torch on a GPU."""
    if device.type == CUDA:
        used = [torch.cuda.memory_allocated() / 2**20, torch.cuda.max_memory_allocated() / 2**20]
        torch.cuda.reset_peak_memory_stats()
        return used
    facts = Path("/proc/self/status").read_text()  # Linux
    used = [int(facts.partition(f"{name}:")[2].split()[0]) / 2**10 for name in ("VmRSS", "VmHWM")]
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    return used


if __name__ == "__main__":
    cli.main(command)
