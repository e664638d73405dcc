"""Measure the time (``speed``) or the peak memory (``memory``) of methods, in evaluation episodes and training steps.

Networks have random weights and images are noise with a brighter rectangle of an eighth of the image: costs depend on
neither, but on the share of the image that the object covers. Every case runs in a fresh process.
"""

import argparse
import contextlib
import copy
import json
import os
import platform
import re
import sys
import time
from collections.abc import Callable
from datetime import datetime, timezone
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import nn

from model.common.ops import normalise
from model.common.with_encoder import WithEncoder
from model.contract import Trainable
from model.encoders.resnet import ResNetEncoder
from model.episode import Episode
from model.registry import class_of, models
from util import cli
from util.config.compose import config_path
from util.config.read import read_config
from util.errors import UserError, nearest
from util.files import write_atomically
from util.launch.plan import Case
from util.report.table import Table, add_format
from util.run.device import describe, pick_device

STAGES = EVALUATION, TRAINING = "evaluation", "training"
BATCH = {EVALUATION: 1, TRAINING: 4}
MIB = 2**20
COLUMNS = {
    "speed": {"s": "seconds", "units": "units", "s of a unit": "unit_seconds", "encoder units": "encoder_units"},
    "memory": {"MiB above network and episode": "mib", "MiB of the process": "peak_mib"},
}


def command() -> int:
    """Measure the cases of the command line, print the table and return 0."""
    parser = cli.Parser(prog="python -m benchmark", description=__doc__)
    add = parser.add_argument
    add("what", choices=COLUMNS)
    add("--models", help="such as symnet,ssp; default all with an encoder")
    add("--net", help="an encoder, such as resnet101; default resnet50 where the method takes it")
    add("--shot", type=cli.numbers, default="1,5", help="shots of the evaluation episodes; default 1,5")
    add("--stages", default=",".join(STAGES), help="default both: evaluation,training")
    add("--set", dest="overrides", action="append", default=[], metavar="section.key=value")
    add("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda")
    add("--threads", type=int, default=2, help="of the CPU; default 2")
    add("--repeats", type=int, default=5, help="measured rounds of speed; default 5")
    add("--json", type=Path, metavar="FILE", help="also write the measurements to this file")
    add_format(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)  # which the report names
    measured_under = {
        "machine": f"{_processor()}, {os.cpu_count()} cores",
        "device": describe(pick_device(options.device)),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    rows: list[dict[str, Any]] = []
    for case in _cases(options):
        print(case, file=sys.stderr, flush=True)
        with get_context("spawn").Pool(1) as pool:  # inherits no memory
            measured = pool.apply(seconds if options.what == "speed" else peak_memory, (case, options))
        rows.append({"case": str(case), **measured})
    columns = COLUMNS[options.what]
    cells = [[row["case"], *(f"{row[key]:.2f}" for key in columns.values())] for row in rows]
    print("; ".join(f"{key} {value}" for key, value in measured_under.items()))
    print(format(Table(["case", *columns], cells), options.format))
    if options.json:
        content = {"command": options.what, "conditions": measured_under, "rows": rows}
        write_atomically(options.json, json.dumps(content, indent=1) + "\n")
    return 0


def _cases(options: argparse.Namespace) -> list[Case]:
    """Return the cases of a command line, every config of them read."""
    stages = cli.words(options.stages)
    if wrong := [stage for stage in stages if stage not in STAGES]:
        raise UserError(f"--stages: '{wrong[0]}' is no stage{nearest(wrong[0], STAGES)}")
    out = []
    for name in cli.words(options.models or ",".join(n for n, cls in models().items() if issubclass(cls, WithEncoder))):
        net = options.net if options.net or name not in models() else models()[name].default_net or "resnet50"
        path = config_path("split0", "pascal", name, net)
        for stage, shot in [(EVALUATION, shot) for shot in options.shot] + [(TRAINING, 1)]:
            config = read_config(path, [*options.overrides, f"data.shot={shot}", "data.text=none"])
            if stage in stages and (stage == EVALUATION or class_of(config.model).learns):
                out.append(Case(config, BATCH[stage], False, stage == TRAINING))
    return out


def _processor() -> str:
    """Return the processor's name."""
    facts = Path("/proc/cpuinfo")  # Linux
    named = re.search(r"model name\s*: (.*)", facts.read_text() if facts.exists() else "")
    return named[1] if named else platform.processor() or platform.machine()


def prepared(case: Case, options: argparse.Namespace) -> tuple[Trainable, Episode, Callable[[], object]]:
    """Set this process up as a command does, and return network, episodes and one pass over them."""
    cli.configure_process(case.trains)
    torch.set_num_threads(options.threads)
    device = pick_device(options.device)
    network, episode = case.network(device), case.episodes(device)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(
                module.weight, 0.5
            )  # with 1 the maps of random residual networks grow from block to block

    def run() -> None:
        case.run(network, episode)
        network.zero_grad(set_to_none=True)
        network.eval()

    return network, episode, run


def seconds(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Return seconds and units of an episode, the median over rounds in which all take turns.

    A unit is one image through the method's encoder, a residual one as torchvision computes it: convolution, norm and
    ReLU one after the other. ``encoder_units`` is the same image through the encoder as it is.
    """
    network, episode, run = prepared(case, options)
    image, runs, batch = normalise(episode.query[:1]), {"episode": run}, case.batch
    encoder = getattr(network, "encoder", None)
    if encoder is not None:
        plain = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)
        residual = isinstance(plain, ResNetEncoder)  # others are plain already
        stages = nn.Sequential(*plain.stages()) if residual else plain
        runs["encoder"] = torch.inference_mode()(lambda: encoder(image))
        runs["unit"] = torch.inference_mode()(lambda: stages(image))
    took: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.repeats + 1):
        for name, each in runs.items():
            start = time.perf_counter()
            each()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            took[name].append(time.perf_counter() - start)
    took = {name: times[1:] for name, times in took.items()}  # without the first round, which warms up
    unit = took.get("unit", [float("nan")] * options.repeats)
    return {
        "seconds": median(took["episode"]) / batch,
        "units": median(a / b for a, b in zip(took["episode"], unit)) / batch,
        "unit_seconds": median(unit),
        "encoder_units": median(a / b for a, b in zip(took.get("encoder", unit), unit)),
    }


def peak_memory(case: Case, options: argparse.Namespace) -> dict[str, float]:
    """Return the peak of a pass in MiB above network and episodes, and the whole: of the process, on a GPU of torch."""
    _, episode, run = prepared(case, options)
    on_gpu = episode.query.is_cuda
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    else:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak starts anew
    before = torch.cuda.memory_allocated() / MIB if on_gpu else _status("VmRSS")
    run()
    peak = torch.cuda.max_memory_allocated() / MIB if on_gpu else _status("VmHWM")
    return {"mib": peak - before, "peak_mib": peak}


def _status(name: str) -> float:
    """Return a value of Linux's /proc/self/status in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 2**10


if __name__ == "__main__":
    cli.main(command)
