"""How much memory a config's steps need: each stage's step measured with the smallest batches, and extrapolated.

A step takes what network, gradients and optimiser take, whatever the batch, and the same again for every episode (or
image) of it. Two steps in a process of their own, of one more episode each, give both numbers, on the CPU, at the
config's own size. A GPU needs about as much above what Python and torch hold. Loader processes are not counted.
"""

from __future__ import annotations

import math
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from model.contract import Batch, Episode, LabelledImages
from model.registry import class_of
from util.config.settings import Config
from util.data.folds import Fold
from util.data.text import NAME_VECTOR_WIDTH
from util.engine.configure_process import configure_process
from util.engine.device import autocast, pick_device
from util.engine.errors import as_user_error
from util.engine.network import build_model
from util.engine.optimizers import build_optimizers
from util.errors import UserError
from util.prepare.findings import Finding
from util.prepare.machine import GIGABYTE

KIB = 2**10  # in which the system counts peaks
BASE, META, TEST = STAGES = ("base", "meta", "test")
SMALLEST = {BASE: 2, META: 1, TEST: 1}  # batch norm needs two images


@dataclass(frozen=True)
class Cost:
    """Gigabytes: what Python and torch hold, all that a step takes whatever its batch, and each of its episodes."""

    idle: float
    fixed: float
    each: float

    def of(self, batch: int) -> float:
        """Return the gigabytes of the whole process at a batch."""
        return self.fixed + self.each * batch

    def fitting(self, gigabytes: float) -> int:
        """Return the largest batch that fits."""
        return max(math.floor((gigabytes - self.fixed) / self.each), 0) if self.each > 0 else 0


def look_at_memory(config: Config, gigabytes: float) -> list[Finding]:
    """Return for each stage of a config whether it fits into so much memory, and what to change where it does not."""
    learns = class_of(config.model).learns
    stages = [s for s in STAGES if s == TEST or (learns and getattr(config, f"{s}_stage") is not None)]
    return [_look_at(config, stage, gigabytes) for stage in stages]


def _look_at(config: Config, stage: str, gigabytes: float) -> Finding:
    key, batch, side = _plan(config, stage)
    what, unit = f"memory {stage}", "images" if stage == BASE else "episodes"
    try:
        cost = measure(config, stage)
    except UserError as error:
        return Finding(what, False, str(error), f"lower data.size = {side}, or free some memory")
    need, fits = cost.of(batch), cost.fitting(gigabytes)
    says = (
        f"{need:.1f} GB on a CPU, about {need - cost.idle:.1f} GB of a GPU, at {batch} {unit} of {side} px "
        f"({cost.each:.2f} GB each); allowed {gigabytes:g} GB"
    )
    if need <= gigabytes:
        return Finding(what, True, says)
    if fits < SMALLEST[stage]:
        return Finding(what, False, says, f"lower data.size = {side}; {key} = {batch} alone will not do")
    mend = f"--set {key}={fits}"
    if stage != TEST:
        accumulate = getattr(config, f"{stage}_stage").accumulate * math.ceil(batch / fits)
        mend = f"--set {stage}_stage.accumulate={accumulate} (the same batch in more parts), or {mend}"
    return Finding(what, False, says, mend)


def _plan(config: Config, stage: str) -> tuple[str, int, int]:
    """Return the key of a stage's batch, how many of it are in memory at once on one device, and their side."""
    if stage == TEST:
        return "test.batch", config.test.batch, config.data.size
    settings = getattr(config, f"{stage}_stage")
    return f"{stage}_stage.batch", math.ceil(settings.batch / settings.accumulate), config.stage_size(settings)


def measure(config: Config, stage: str) -> Cost:
    """Return what a stage's step costs, measured in a process of its own.

    Raises:
        UserError: there was no memory for the smallest batches.
    """
    with ProcessPoolExecutor(1, get_context("forkserver"), configure_process) as pool:
        try:
            idle, one, two = pool.submit(_peaks, config, stage).result()
        except BrokenProcessPool:
            raise UserError("even the smallest batches end for want of memory") from None
    each = two - one
    return Cost(idle, one - SMALLEST[stage] * each, each)


def _peaks(config: Config, stage: str) -> tuple[float, float, float]:
    """Return the peaks, in gigabytes, before anything, after a step of the smallest batch, and of one more."""
    with as_user_error("data.size"):
        idle = _peak()
        step = _step(config, stage)
        out = [idle]
        for batch in (SMALLEST[stage], SMALLEST[stage] + 1):
            step(batch)
            out.append(_peak())
        return tuple(out)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIGABYTE


def _step(config: Config, stage: str) -> Callable[[int], None]:
    """Return a function that does a step of a stage with a batch of noise."""
    model_class, precision = class_of(config.model), config.run.precision
    network = build_model(config, NAME_VECTOR_WIDTH if model_class.reads_text else 0)
    draw = _images if stage == BASE else _episodes
    cpu, side = pick_device("cpu"), _plan(config, stage)[2]
    if stage == TEST:
        network.eval()

        def score(batch: int) -> None:
            with torch.inference_mode(), autocast(cpu, precision):
                network(draw(config, batch, side))

        return score
    trained = network.base_stage() if stage == BASE else network
    optimizers = build_optimizers(trained.param_groups(), getattr(config, f"{stage}_stage").optimizers)
    trained.train()

    def train(batch: int) -> None:
        with autocast(cpu, precision):
            losses = trained(draw(config, batch, side)).losses
        sum(losses.values()).backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return train


def _images(config: Config, batch: int, side: int) -> Batch:
    """Return noise for the base stage."""
    return LabelledImages(_noise(batch, 3, side, side), _labels(config, batch, side))


def _episodes(config: Config, batch: int, side: int) -> Batch:
    """Return episodes of noise, whose object is the upper half."""
    shot, model_class = config.data.shot, class_of(config.model)
    half = torch.zeros(batch, shot + 1, side, side, dtype=torch.uint8)
    half[:, :, : side // 2] = 1
    ones = torch.ones(batch, dtype=torch.int64)
    return Episode(
        query=_noise(batch, 3, side, side),
        query_label=half[:, 0],
        support=_noise(batch, shot, 3, side, side),
        support_label=half[:, 1:],
        class_id=ones,
        base_id=ones,
        number=torch.arange(batch),
        query_base_label=_labels(config, batch, side) if model_class.reads_base_labels else None,
        text=torch.randn(batch, NAME_VECTOR_WIDTH) if model_class.reads_text else None,
    )


def _noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def _labels(config: Config, batch: int, side: int) -> torch.Tensor:
    return torch.randint(0, len(Fold.of(config.data).base) + 1, (batch, side, side), dtype=torch.uint8)
