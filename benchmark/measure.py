"""One measurement in a process of its own: seconds and peak memory of one way through one model, as JSON."""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections.abc import Callable

import torch
from torch import nn

from benchmark.naive import NaiveDCAMA, NaiveSSP
from model.contract import Episode, FewShotModel, Task
from model.ops import normalise
from model.registry import models

NAIVE = {"dcama": NaiveDCAMA, "ssp": NaiveSSP}
WAYS = ("ours", "naive", "encoder")  # encoder: K + 1 passes of the model's encoder, one image at a time
REPEATS = 2  # timed after one that is not; the best counts
MIB = 2**20


def build(name: str, backbone: str, size: int, shots: int) -> FewShotModel:
    """Return a model with random weights, in evaluation mode."""
    model_class = models()[name]
    settings = model_class.Settings()
    settings.encoder.backbone = backbone
    torch.manual_seed(0)
    network = model_class(settings, Task(base_classes=15, shots=shots, size=size, text_width=0)).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):  # residuals of random networks grow otherwise
            nn.init.constant_(module.weight, 0.5)
    return network


def episode(size: int, shots: int, device: str) -> Episode:
    """Return one drawn episode: noise, and a square as the object."""
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, shots + 1, 3, size, size), dtype=torch.uint8, generator=random)
    label = torch.zeros(1, shots, size, size, dtype=torch.uint8)
    label[..., size // 4 : size // 2, size // 4 : 3 * size // 4] = 1
    one = torch.ones(1, dtype=torch.int64)
    out = Episode(images[:, 0], label[:, 0].clone(), images[:, 1:], label, one, one, one)
    return out.to(torch.device(device))


def way_through(way: str, name: str, network: FewShotModel) -> Callable[[Episode], object]:
    """Return what is measured, a function of an episode."""
    if way == "ours":
        return network
    if way == "naive":
        return NAIVE[name](network)
    return lambda e: [network.encoder(normalise(image)) for image in (e.query, *e.support.unbind(1))]


@torch.inference_mode()
def measure(run: Callable[[Episode], object], on: Episode) -> dict[str, float]:
    """Return seconds (of one CPU thread, or of a GPU) and MiB above what network and episode take."""
    cuda = on.query.is_cuda
    clock = time.perf_counter if cuda else time.process_time
    if cuda:
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
    else:
        before = _resident()
    run(on)
    peak = (torch.cuda.max_memory_allocated() if cuda else _peak()) - before
    times = []
    for _ in range(REPEATS):
        start = clock()
        run(on)
        if cuda:
            torch.cuda.synchronize()
        times.append(clock() - start)
    return {"seconds": min(times), "mib": peak / MIB}


def _resident() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def main() -> None:
    """Measure what the command line names and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(NAIVE))
    parser.add_argument("way", choices=WAYS)
    parser.add_argument("backbone")
    parser.add_argument("size", type=int)
    parser.add_argument("shots", type=int)
    parser.add_argument("device")
    options = parser.parse_args()
    if options.device == "cpu":
        torch.set_num_threads(1)
    network = build(options.name, options.backbone, options.size, options.shots).to(options.device)
    drawn = episode(options.size, options.shots, options.device)
    print(json.dumps(measure(way_through(options.way, options.name, network), drawn)))


if __name__ == "__main__":
    main()
