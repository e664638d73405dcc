"""Part 4: ``run.compile``, torch.compile with CUDA graphs, and a captured CUDA graph, each beside eager execution."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from benchmark.gpu.meter import measure, now
from benchmark.gpu.settings import Settings, Skipped
from benchmark.gpu.steps import episodes, evaluation, network_of, training_step
from benchmark.reporting import Table
from benchmark.ways import EVALUATION, TRAINING, Run
from util.engine.device import CUDA
from util.engine.network import prepare_network

TITLE = "compiler and CUDA graphs"
NEEDS: tuple[str, ...] = ()
SECONDS, CONTINUES = 150, False
EAGER, COMPILE, OVERHEAD, GRAPH = "eager", "run.compile", "reduce-overhead", "CUDA graph"
CASES = (
    ("symnet", EVALUATION, 1),
    ("symnet", EVALUATION, 16),
    ("symnet", TRAINING, 8),
    ("ssp", EVALUATION, 1),
)
QUICK_CASES = (("prototype", EVALUATION, 1),)
WARM_UP = 3  # passes before a capture, on a stream of their own


def units(settings: Settings) -> dict[str, Any]:
    """Return a unit for each case and mode; a training step is not captured, its optimiser and random state change."""
    return {
        f"{model}, {stage} of {batch}, {mode}": partial(_measured, model, stage, batch, mode)
        for model, stage, batch in (QUICK_CASES if settings.quick else CASES)
        for mode in (EAGER, COMPILE, OVERHEAD, GRAPH)
        if not (stage == TRAINING and mode == GRAPH)
    }


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return milliseconds of every mode, and how many times as fast as eager execution it is."""
    eager = {(r["model"], r["stage"], r["batch"]): r["seconds"] for r in results.values() if r["mode"] == EAGER}
    lines = []
    for name, row in results.items():
        before = eager.get((row["model"], row["stage"], row["batch"]))
        times = "" if before is None else f"{before / row['seconds']:.2f}"
        lines.append([name, f"{1e3 * row['seconds']:.2f}", times, f"{row['ready_s']:.0f}", f"{row['peak_mib']:.0f}"])
    header = ["case", "ms a batch", "x eager", "s until ready", "peak MiB"]
    return {"one shot, bf16 on a GPU": (header, lines)} if lines else {}


def _measured(model: str, stage: str, batch: int, mode: str, settings: Settings) -> dict[str, Any]:
    """Return the cost of a batch in a mode, and the seconds until its first results."""
    device = settings.place
    if mode in (GRAPH, OVERHEAD) and device.type != CUDA:
        raise Skipped("needs CUDA")
    if mode == COMPILE and settings.quick:
        raise Skipped("--quick compiles nothing")
    network = network_of(model, settings.quick, device)
    if mode == COMPILE:
        prepare_network(network, device, compile=True)  # in place
    elif mode == OVERHEAD:
        network.compile(mode="reduce-overhead")
    on = episodes(network, device, batch)
    run: Run = evaluation(network, on, settings.mixed)
    if stage == TRAINING:
        run = partial(training_step(network, network, settings.mixed), on)
    if mode == OVERHEAD:
        run = _marked(run)
    started = now()
    if mode == GRAPH:
        run = captured(run, device)
    run()
    if device.type == CUDA:
        torch.cuda.synchronize(device)
    ready = now() - started
    rate = measure(run, device, settings.quick)
    return {"model": model, "stage": stage, "batch": batch, "mode": mode, "ready_s": ready, **rate.as_dict()}


def _marked(run: Run) -> Run:
    """Return a function that tells the compiler's CUDA graphs that the outputs of its last call are not needed."""

    def call() -> None:
        torch.compiler.cudagraph_mark_step_begin()
        run()

    return call


def captured(run: Run, device: torch.device) -> Run:
    """Return the replay of a function's kernels on the same memory.

    Raises:
        RuntimeError: the function waits for the GPU, which a capture does not allow.
    """
    side = torch.cuda.Stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream(device).wait_stream(side)
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay
