"""Measure a whole test beside its plain form: the minutes of a result, and those that a plain loop would take.

The plain form sees a sample of the result's own episodes, evenly spaced, one by one and in float32, in a process of its
own with the allocator that torch has by itself; reading photos does not count. Their mean time is taken for every
episode. Run it on the machine that made the result, while that is idle.
"""

from __future__ import annotations

import argparse
import math
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import torch

from benchmark import process
from benchmark.process import set_up_allocator
from benchmark.reporting import add_common_options, conditions, report, set_up, whole
from benchmark.timing import Clock
from benchmark.ways import EVALUATION, NAIVE, PLAIN, make
from util.engine.loading import batches
from util.engine.processes import join
from util.engine.result_checks import tested_config
from util.engine.run_data import trials
from util.engine.test_jobs import Request, build_test_jobs
from util.errors import UserError
from util.report.schema import find_results, read_result
from util.report.table import title

SAMPLE = 20
NORMAL_95 = 1.96  # standard errors on either side of a mean
SECONDS_PER_MINUTE = 60


@dataclass(frozen=True)
class Sample:
    """The plain form's time on some episodes of a test."""

    seconds: list[float]  # of each episode, the median over rounds
    shares: list[float]  # of the supports' pixels that show their object


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this command's options."""
    parser.add_argument("results", type=Path, nargs="+", help="results of this machine, or folders that hold some")
    parser.add_argument("--sample", type=whole, default=SAMPLE, help=f"episodes of each; default {SAMPLE}")
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    """Measure the plain form of every result and print the table."""
    clock = set_up(options)
    measured_under = conditions(clock, options.threads)
    rows = [_measured(path, options, clock) for path in find_results(options.results)]
    header = ["result", "minutes", "plain s per episode", "plain minutes", "ours / plain", "supports' object"]
    lines = [
        [
            row["title"],
            f"{row['minutes']:.1f}",
            f"{row['plain_seconds']:.2f} ± {row['plain_seconds_interval']:.2f}",
            f"{row['plain_minutes']:.0f}",
            f"{row['ours_over_plain']:.2f}",
            f"{row['object_share']:.0%}",
        ]
        for row in rows
    ]
    return report(
        options, measured_under, {f"a whole test; plain from {options.sample} episodes": (header, lines)}, rows
    )


def _measured(path: Path, options: argparse.Namespace, clock: Clock) -> dict[str, Any]:
    result = read_result(path)
    _check(path, result)
    total = result["episodes"] * len(result["seeds"])
    asked = path, options.sample, options.repeats, options.threads, clock
    with ProcessPoolExecutor(1, get_context(process.START_METHOD), set_up_allocator, (PLAIN, EVALUATION)) as pool:
        try:
            sample = pool.submit(_plain, *asked).result()
        except BrokenProcessPool:
            raise UserError(f"{path}: the plain form's process ended, probably because memory ran out") from None
    each = mean(sample.seconds)
    spread = stdev(sample.seconds) if len(sample.seconds) > 1 else math.inf
    return {
        "result": str(path),
        "title": title(result),
        "shots": result["shot"],
        "minutes": result["minutes"],
        "plain_seconds": each,
        "plain_seconds_interval": NORMAL_95 * spread / math.sqrt(len(sample.seconds)),
        "plain_minutes": total * each / SECONDS_PER_MINUTE,
        "ours_over_plain": result["minutes"] * SECONDS_PER_MINUTE / (total * each),
        "object_share": mean(sample.shares),
        "episode_seconds": sample.seconds,
    }


def _check(path: Path, result: dict[str, Any]) -> None:
    """Refuse a result whose test has no plain form.

    Raises:
        UserError: names the setting.
    """
    model, ways = result["model"], result["protocol_settings"].get("ways", 1)
    if model not in NAIVE:
        raise UserError(f"{path}: model {model} has no plain form here; name a result of {', '.join(NAIVE)}")
    if ways > 1 or result["averaged"]:
        raise UserError(
            f"{path}: {ways} way(s), {result['passes']} pass(es) an episode; name a result of one way and one pass"
        )


def _plain(path: Path, count: int, rounds: int, threads: int, clock: Clock) -> Sample:
    """Time the plain form on a sample of a result's first seed."""
    torch.set_num_threads(threads)
    result = read_result(path)
    config = tested_config(result, str(path))
    config = replace(config, run=replace(config.run, device=clock.device.type, precision="float32", compile=False))
    with join(config.run.device, "--sample") as world:
        (job,) = build_test_jobs(config, Request(), world)
        seed = next(iter(job.samplers))
        data = trials(job.context, job.samplers[seed], job.view, (job.scored_on,))
        total = job.episodes[seed]
        count = min(count, total)
        numbers = [(2 * i + 1) * total // (2 * count) for i in range(count)]
        network: Any = job.prepared.network.eval()
        sample = Sample([], [])
        for trial in batches(data, [[n] for n in numbers], 0, world.device):
            once = make(EVALUATION, result["model"], PLAIN, network, trial.episode)
            if not sample.seconds:
                once()
            sample.seconds.append(median(clock.of(once) for _ in range(rounds)))
            sample.shares.append(float((trial.episode.support_label == 1).float().mean()))
    return sample
