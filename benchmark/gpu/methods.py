"""Part 3: every registered method at its published size: evaluation and training step beside a plain loop.

The plain loop takes one episode at a time in float32, through the plain implementation where there is one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from benchmark.gpu.meter import Rate, free, largest, measure
from benchmark.gpu.settings import ERRORS, Settings
from benchmark.gpu.steps import episodes, evaluation, network_of, reference_of, side_of, training_step, with_features
from benchmark.reporting import Table
from benchmark.ways import EVALUATION, PLAIN, TRAINING, Run
from model.contract import FewShotModel
from model.episode import Episode
from model.registry import models
from util.engine.device import CUDA
from util.engine.network import FLOAT32
from util.errors import one_line

TITLE = "methods"
NEEDS: tuple[str, ...] = ()
SECONDS, CONTINUES = 120, False
BATCHES = {EVALUATION: 16, TRAINING: 8}  # halved until they fit
QUICK_BATCH, QUICK_METHODS = 2, ("symnet", "insid3")
SINGLE, FEATURES = "batch 1", "kept features"


def units(settings: Settings) -> dict[str, Any]:
    """Return a unit for each method."""
    return {name: partial(_measured, name) for name in (QUICK_METHODS if settings.quick else sorted(models()))}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return a table for each stage."""
    header = ["method, way", "px", "batch", "episodes / s", "images / s", "x plain", "peak MiB", "GPU busy"]
    out: dict[str, Table] = {}
    for stage in (EVALUATION, TRAINING):
        lines = [
            [f"{name}, {row['way']}", str(result["side"]), str(row["batch"]), *_numbers(row)]
            for name, result in results.items()
            for row in result[stage]
        ]
        out[f"{stage}, one shot"] = (header, lines)
    return out


def best_ratio(result: dict[str, Any], stage: str) -> float | None:
    """Return the best rate of a stage over the plain loop's, without kept features; None if it was not measured."""
    ratios = [row["times_plain"] for row in result[stage] if row["way"] not in (PLAIN, FEATURES)]
    return max(ratios, default=None)


def busy(value: float | None) -> str:
    """Return a utilisation for tables."""
    return "" if value is None else f"{value:.0%}"


def _numbers(row: dict[str, Any]) -> list[str]:
    rates = [f"{row['episodes_per_second']:.2f}", f"{row['images_per_second']:.1f}", f"{row['times_plain']:.2f}"]
    return [*rates, f"{row['peak_mib']:.0f}", busy(row["utilisation"])]


def _measured(name: str, settings: Settings) -> dict[str, Any]:
    """Return the rows of both stages of a method."""
    device = settings.place
    network = network_of(name, settings.quick, device)
    errors: list[str] = []
    evaluated = _evaluation(name, network, settings, errors)
    trained = []
    if network.learns and network.param_groups():
        trained = _training(name, network, settings, errors)
    return {"side": side_of(name, settings.quick), EVALUATION: evaluated, TRAINING: trained, ERRORS: errors}


def _evaluation(name: str, network: FewShotModel, settings: Settings, errors: list[str]) -> list[dict[str, Any]]:
    network.eval()
    plain = reference_of(name, network, training=False)
    many = QUICK_BATCH if settings.quick else BATCHES[EVALUATION]

    def way(run: nn.Module, precision: str) -> Callable[[Episode], Run]:
        return lambda on: evaluation(run, on, precision)

    def kept(on: Episode) -> Run:
        filled = with_features(network, on, settings.mixed)
        assert filled is not None  # checked below
        return evaluation(network, filled, settings.mixed)

    ways = {
        PLAIN: (1, way(plain, FLOAT32)),
        SINGLE: (1, way(network, FLOAT32)),
        FLOAT32: (many, way(network, FLOAT32)),
        settings.mixed: (many, way(network, settings.mixed)),
    }
    if with_features(network, episodes(network, settings.place, 1), FLOAT32) is not None:
        ways[FEATURES] = (many, kept)
    return _rows(network, ways, settings, errors)


def _training(name: str, network: FewShotModel, settings: Settings, errors: list[str]) -> list[dict[str, Any]]:
    plain = reference_of(name, network, training=True)
    many = QUICK_BATCH if settings.quick else BATCHES[TRAINING]

    def way(run: nn.Module, precision: str) -> Callable[[Episode], Run]:
        step = training_step(network, run, precision)
        return lambda on: partial(step, on)

    ways = {
        PLAIN: (1, way(plain, FLOAT32)),
        FLOAT32: (many, way(network, FLOAT32)),
        settings.mixed: (many, way(network, settings.mixed)),
    }
    return _rows(network, ways, settings, errors)


def _rows(
    network: FewShotModel,
    ways: dict[str, tuple[int, Callable[[Episode], Run]]],
    settings: Settings,
    errors: list[str],
) -> list[dict[str, Any]]:
    """Return a row for each way; the first one is the plain loop. Those that fail are lines of ``errors``."""
    rows: list[dict[str, Any]] = []
    images, device = network.task.shots + 1, settings.place
    for name, (wanted, make) in ways.items():

        def attempt(batch: int, make: Callable[[Episode], Run] = make) -> Rate:
            return measure(make(episodes(network, device, batch)), device, settings.quick)

        try:
            batch, rate = largest(wanted, attempt, device)
        except ModuleNotFoundError:
            raise  # the method is skipped
        except Exception as error:
            if device.type == CUDA:
                torch.cuda.synchronize(device)  # raises where the GPU can do no more
            errors.append(f"{name}: {type(error).__name__}: {one_line(error)}")
            continue
        per_second = batch / rate.seconds
        plain = next((row["episodes_per_second"] for row in rows if row["way"] == PLAIN), per_second)
        rows.append(
            {
                "way": name,
                "batch": batch,
                "episodes_per_second": per_second,
                "images_per_second": per_second * images,
                "times_plain": per_second / plain,
                **rate.as_dict(),
            }
        )
        network.zero_grad(set_to_none=True)
        free(device)
    return rows
