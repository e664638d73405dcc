"""Measure time and peak memory of methods, in evaluation episodes and training steps, each in a fresh process.

``NET`` in the environment is an encoder, such as resnet101; ``OMP_NUM_THREADS`` the threads of the CPU. Weights are
random, but for the encoder's where ``--set model.encoder.weights=FILE`` names them; images are noise with a brighter
rectangle. Costs depend on the share that an object covers, and SSP's on the positions that it calls confident: compare
two versions or precisions of it with weights.
"""

import os
import platform
import timeit
from collections.abc import Callable
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import nn

from model.episode import Episode
from model.registry import class_of
from util import cli
from util.config.command_line import add_overrides
from util.config.compose import find_config, has_encoder
from util.config.folder import method_names
from util.config.read import read_config
from util.config.settings import Config
from util.loop.device import CUDA, describe, pick_device
from util.loop.network import prepare_network
from util.loop.train import WHOLE, backward
from util.run.build import build_model, precision_of_test, precision_of_training
from util.weights.encoders import start_encoders

BATCH = {"evaluation": 1, "training": 4}  # the stages: a training step is one without its optimiser


def command() -> None:
    """Measure the cases of the command line and print a line for each."""
    parser = cli.Parser(prog="python -m util.benchmark", description=__doc__)
    parser.add_argument("--models", default="", help="such as symnet,ssp; default all with an encoder")
    parser.add_argument("--shot", type=cli.numbers, default="1,5", help="of the evaluation episodes; default 1,5")
    add_overrides(parser)
    options = parser.parse_args()
    names = cli.comma_separated(options.models) or [*filter(has_encoder, method_names())]
    stages = [*(("evaluation", shot) for shot in options.shot), ("training", 1)]
    cases = [_case(name, stage, shot, options.overrides) for name, (stage, shot) in product(names, stages)]
    device = describe(pick_device(cases[0][0].run.device))
    print(f"{platform.machine()}, {os.cpu_count()} cores; {device}; {torch.__version__}")
    for config, stage in cases:
        method = class_of(config.model)
        if method.learns or stage == "evaluation":
            with get_context("spawn").Pool(1) as pool:  # inherits no memory
                milliseconds, mib, weights = pool.apply(measure, (config, stage))
            shown = f"{method.title} {config.model.encoder_name()}, {config.data.size} px"
            costs = f"{milliseconds:.2f} ms, {mib:.1f} MiB above network and episodes"
            print(f"{shown}, {config.data.shot}-shot {stage}, batch {BATCH[stage]}: {costs}; {weights}", flush=True)


def _case(name: str, stage: str, shot: int, overrides: list[str]) -> tuple[Config, str]:
    """Return the config of a method on PASCAL with a number of shots, and the stage."""
    source = find_config("split0", "pascal", name, os.environ.get("NET") or None)
    return read_config(source, [*overrides, f"data.shot={shot}", "data.text=none"]), stage


def measure(config: Config, stage: str) -> tuple[float, float, str]:
    """Return an episode's milliseconds, the median, a pass's peak in MiB beside network and batch, and the weights."""
    device = pick_device(config.run.device)
    run, weights = _pass(config, stage, device)
    before, _ = _memory(device)
    run()
    _, peak = _memory(device)
    wait = torch.cuda.synchronize if device.type == CUDA else int  # what does nothing
    seconds = sorted(timeit.repeat("run(); wait()", number=1, repeat=7, globals=locals())[2:])  # two choose kernels
    return 1e3 * seconds[2] / BATCH[stage], peak - before, weights


def _pass(config: Config, stage: str, device: torch.device) -> tuple[Callable[[], object], str]:
    """Set this process up as a command does; return one pass of a network over its batch, and its weights in words."""
    trains = stage == "training"
    cli.configure_process(trains)
    network = build_model(config, text_width=300 if class_of(config.model).reads_text else 0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # with 1 the maps of random residual networks grow from block to block
            nn.init.constant_(module.weight, 0.5)
    weights = "random weights"
    if any("encoder.weights=" in words for words in config.given):
        weights, _ = start_encoders(config, network)
    precision = (precision_of_training if trains else precision_of_test)(config, device)
    prepared = prepare_network(network.train(trains), device, precision)
    episodes = _episodes(BATCH[stage], config.data.shot, config.data.size).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "fp16")

    def step() -> None:
        backward(prepared, scaler, episodes, WHOLE, last=True)
        network.zero_grad(set_to_none=True)

    if trains:
        return step, weights
    return torch.inference_mode()(lambda: prepared.predict([episodes])), weights


def _episodes(count: int, shot: int, size: int) -> Episode:
    """Return a batch of noise with a brighter rectangle as the object of each image."""
    random = torch.Generator().manual_seed(0)
    labels = torch.zeros(count, shot + 1, size, size, dtype=torch.uint8)
    labels[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
    images = torch.randint(0, 128, (count, shot + 1, 3, size, size), dtype=torch.uint8, generator=random)
    images += 100 * labels.unsqueeze(2)
    query, label = images[:, 0], labels[:, 0]
    ids = torch.ones(count, dtype=torch.int64)
    return Episode(query, label, images[:, 1:], labels[:, 1:], ids, ids, ids, label, text=torch.randn(count, 300))


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
