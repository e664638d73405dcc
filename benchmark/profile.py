"""Measure the time of each part of a network, and of each torch operation, in one evaluation episode."""

from __future__ import annotations

import argparse
from collections import defaultdict
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.hooks import RemovableHandle

from benchmark.reporting import add_common_options, add_network_options, conditions, report, set_up, whole
from benchmark.synthetic import SIZES, build, check_models, episode
from benchmark.timing import Clock
from benchmark.ways import EVALUATION, OURS, Run, make
from util.engine.device import CUDA

OPERATIONS = 15  # in the table, the largest ones
PARTS_LEFT = "everything between parts"
MS_PER_S = 1e3
US_PER_MS = 1e3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("--model", default="symnet", choices=sorted(SIZES))
    parser.add_argument("--shot", type=whole, default=1, help="default 1")
    add_network_options(parser)
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Profile an episode and print both tables."""
    check_models((options.model,), options.size)
    clock = set_up(options)
    measured_under, size = conditions(clock, options.threads), options.size or SIZES[options.model]
    network = build(options.model, options.backbone, size, options.shot).to(clock.device)
    once = make(EVALUATION, options.model, OURS, network, episode(size, options.shot, clock.device))
    once()
    parts, operations = _parts(network, once, options.repeats, clock), _operations(once, clock.device)
    what = f"{options.model} {options.backbone}, {size} px, {options.shot}-shot evaluation"
    tables = {
        f"{what}, by part": (["part", "ms", "share"], [_line(row) for row in parts]),
        f"{what}, by operation": (["operation", "calls", "ms", "share"], [_line(row) for row in operations]),
    }
    return report(options, measured_under, tables, [*parts, *operations])


def _parts(network: nn.Module, once: Run, rounds: int, clock: Clock) -> list[dict[str, Any]]:
    """Return the mean time in each child module of the network and in the rest, largest first."""
    total: dict[str, float] = defaultdict(float)
    started: dict[str, float] = {}
    hooks: list[RemovableHandle] = []

    def start(name: str) -> None:
        started[name] = clock()

    def stop(name: str) -> None:
        total[name] += clock() - started[name]

    for name, part in network.named_children():
        hooks.append(part.register_forward_pre_hook(lambda *_, n=name: start(n)))
        hooks.append(part.register_forward_hook(lambda *_, n=name: stop(n)))
    whole = sum(clock.of(once) for _ in range(rounds))
    for hook in hooks:
        hook.remove()
    total[PARTS_LEFT] = whole - sum(total.values())
    largest = sorted(total.items(), key=lambda item: -item[1])
    return [{"part": name, "ms": MS_PER_S * s / rounds, "share": s / whole} for name, s in largest]


def _operations(once: Run, device: torch.device) -> list[dict[str, Any]]:
    """Return torch's operations by the time without the operations inside them, largest first."""
    cuda = device.type == CUDA
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as recorded:
        once()
    averages = recorded.key_averages()
    own = {a.key: (a.self_device_time_total if cuda else a.self_cpu_time_total, a.count) for a in averages}
    whole = sum(microseconds for microseconds, _ in own.values())
    largest = sorted(own.items(), key=lambda item: -item[1][0])[:OPERATIONS]
    return [{"operation": n, "calls": c, "ms": t / US_PER_MS, "share": t / whole} for n, (t, c) in largest]


def _line(row: dict[str, Any]) -> list[str]:
    """Return a line of a table."""
    name, *counts = [str(value) for key, value in row.items() if key in ("part", "operation", "calls")]
    return [name, *counts, f"{row['ms']:.1f}", f"{row['share']:.1%}"]
