"""Measure a whole test beside its plain form: the minutes of a result, and those that a plain loop would take.

The plain form sees a sample of the result's own episodes, evenly spaced, one by one and in float32, in a process of its
own with the allocator that torch has by itself; reading photos does not count. Their mean time is taken for every
episode. Run it on the machine that made the result, while that is idle.
"""

from __future__ import annotations

import argparse
import math
from dataclasses import dataclass, replace
from itertools import cycle
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch

from benchmark.process import Measurement, measure, set_up_allocator
from benchmark.reporting import add_common_options, conditions, report, set_up, whole
from benchmark.timing import WALL, Clock
from benchmark.ways import EVALUATION, NAIVE, PLAIN, Run, make
from util.engine.loading import batches
from util.engine.processes import join
from util.engine.result_checks import tested_config
from util.engine.run_data import trials
from util.engine.test_jobs import Request, build_test_jobs
from util.engine.trainer import SECONDS_PER_MINUTE
from util.errors import UserError
from util.report.schema import find_results, read_result
from util.report.table import title

SAMPLE = 20
NORMAL_95 = 1.96  # standard errors on either side of a mean


@dataclass(frozen=True, kw_only=True)
class PlainTest(Measurement):
    """The plain form on a sample of a result's first seed; each call takes the next episode."""

    path: Path
    sample: int

    def set_up(self) -> None:
        """Leave the allocator as torch has it."""
        set_up_allocator(PLAIN, EVALUATION)

    def prepare(self, device: torch.device) -> Run:
        """Return one pass over the next episode; after the last comes the first."""
        result = read_result(self.path)
        config = tested_config(result, str(self.path))
        config = replace(config, run=replace(config.run, device=device.type, precision="float32", compile=False))
        with join(config.run.device, "--sample") as world:
            (job,) = build_test_jobs(config, Request(), world)
            seed = next(iter(job.samplers))
            data = trials(job.context, job.samplers[seed], job.view, (job.scored_on,))
            total = job.episodes[seed]
            numbers = [(2 * i + 1) * total // (2 * self.sample) for i in range(self.sample)]
            network: Any = job.prepared.network.eval()
            episodes = [trial.episode for trial in batches(data, [[n] for n in numbers], 0, world.device)]
        runs = cycle(make(EVALUATION, result["model"], PLAIN, network, episode) for episode in episodes)
        return lambda: next(runs)()


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("results", type=Path, nargs="+", help="results of this machine, or folders that hold some")
    parser.add_argument("--sample", type=whole, default=SAMPLE, help=f"episodes of each; default {SAMPLE}")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure the plain form of every result and print the table."""
    clock = set_up(options)
    if clock.kind != WALL:
        raise UserError(f"--clock {clock.kind}: a result's minutes are of the wall clock; leave it out")
    measured_under, results = conditions(clock, options.threads), {}
    for path in find_results(options.results):
        results[path] = read_result(path)
        _check(path, results[path])
    rows = [_measured(path, result, options, clock) for path, result in results.items()]
    header = ["result", "minutes", "plain s per episode", "plain minutes", "ours / plain"]
    lines = [
        [
            row["title"],
            f"{row['minutes']:.1f}",
            f"{row['plain_seconds']:.2f} ± {row['plain_seconds_interval']:.2f}",
            f"{row['plain_minutes']:.0f}",
            f"{row['ours_over_plain']:.2f}",
        ]
        for row in rows
    ]
    return report(
        options, measured_under, {f"a whole test; plain from {options.sample} episodes": (header, lines)}, rows
    )


def _measured(path: Path, result: dict[str, Any], options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    total = result["episodes"] * len(result["seeds"])
    sample = min(options.sample, result["episodes"])
    case = PlainTest(
        path=path,
        sample=sample,
        calls=options.repeats * sample,
        warm_up=True,
        threads=options.threads,
        device=str(clock.device),
        clock=clock.kind,
    )
    (outcome,) = measure([case])
    seconds = [median(outcome.seconds[i::sample]) for i in range(sample)]
    each = mean(seconds)
    spread = stdev(seconds) if sample > 1 else math.inf
    return {
        "result": str(path),
        "title": title(result),
        "shots": result["shot"],
        "minutes": result["minutes"],
        "plain_seconds": each,
        "plain_seconds_interval": NORMAL_95 * spread / math.sqrt(sample),
        "plain_minutes": total * each / SECONDS_PER_MINUTE,
        "ours_over_plain": result["minutes"] * SECONDS_PER_MINUTE / (total * each),
        "episode_seconds": seconds,
    }


def _check(path: Path, result: dict[str, Any]) -> None:
    """Refuse a result whose test has no plain form, or whose minutes are not its own.

    Raises:
        UserError: names the setting.
    """
    model, ways = result["model"], result["protocol_settings"].get("ways", 1)
    refine = result["config"]["model"].get("refine", True)
    if model not in NAIVE:
        raise UserError(f"{path}: model {model} has no plain form here; name a result of {', '.join(NAIVE)}")
    if result["replayed"] is not None:
        raise UserError(f"{path}: its episodes are a manifest's; name a result of the protocol's own")
    if result["shared_with"] or result["processes"] > 1:
        raise UserError(
            f"{path}: its minutes are shared with {', '.join(result['shared_with']) or 'other processes'}; "
            "score one protocol alone, in one process"
        )
    if result["input_side"] is None or not refine:
        setting = "original sizes" if refine else "model.refine = False"
        raise UserError(f"{path}: {setting} has no plain form here; name a result of square images, with refinement")
    if ways > 1 or result["averaged"]:
        raise UserError(
            f"{path}: {ways} way(s), {result['passes']} pass(es) an episode; name a result of one way and one pass"
        )
