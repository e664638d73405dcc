"""RAM that a config's steps need: measured for each stage with the smallest batches, and extrapolated.

The RAM of a step is a fixed part (network, gradients, optimiser) and an equal part for each episode (or image) of the
batch. Two steps that differ by one episode, run on the CPU in a process of their own at the config's size, give both
parts. A GPU needs about as much, minus the RAM of Python and torch. A test keeps features besides, as many as
``test.cache_gib`` allows. Loader processes are not counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context

import torch

from model.episode import Batch, Episode, LabelledImages
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

KIB, GIB = 2**10, 2**30  # units of the peaks that the system reports, and of the settings
BASE, META, TEST = STAGES = ("base", "meta", "test")
MIN_BATCH = {BASE: 2, META: 1, TEST: 1}  # batch norm needs two images


@dataclass(frozen=True)
class RamCost:
    """Gigabytes of RAM of a step."""

    idle: float  # Python and torch
    fixed: float  # the whole process, without any episode
    each: float  # per episode (or image) of the batch

    def of(self, batch: int) -> float:
        """Return the gigabytes of the whole process for a batch size."""
        return self.fixed + self.each * batch

    def fitting(self, gigabytes: float) -> int:
        """Return the largest batch size that fits."""
        return max(math.floor((gigabytes - self.fixed) / self.each), 0) if self.each > 0 else 0


def check_ram(config: Config, gigabytes: float) -> list[Finding]:
    """Return for each stage of a config whether it fits into this much RAM, and the settings to change if not."""
    learns = class_of(config.model).learns
    stages = [s for s in STAGES if s == TEST or (learns and getattr(config, f"{s}_stage") is not None)]
    return [_check_stage(config, stage, gigabytes) for stage in stages]


def _check_stage(config: Config, stage: str, gigabytes: float) -> Finding:
    key, batch, side = _batch_of(config, stage)
    what, unit = f"RAM {stage}", "images" if stage == BASE else "episodes"
    try:
        cost = measure(config, stage)
    except UserError as error:
        return Finding(what, False, str(error), f"lower data.size = {side}, or free some RAM")
    kept, note = _kept_features(config) if stage == TEST else (0.0, "")
    need, fits = cost.of(batch) + kept, cost.fitting(gigabytes - kept)
    says = (
        f"{need:.1f} GB on a CPU, about {need - cost.idle:.1f} GB of a GPU, at {batch} {unit} of {side} px "
        f"({cost.each:.2f} GB each{note}); allowed {gigabytes:g} GB"
    )
    if need <= gigabytes:
        return Finding(what, True, says)
    if need - kept <= gigabytes:
        return Finding(what, False, says, f"lower test.cache_gib = {config.test.cache_gib:g}, or set it to auto")
    if fits < MIN_BATCH[stage]:
        return Finding(what, False, says, f"lower data.size = {side}; lowering {key} = {batch} alone is not enough")
    mend = f"--set {key}={fits}"
    if stage != TEST:
        accumulate = getattr(config, f"{stage}_stage").accumulate * math.ceil(batch / fits)
        mend = f"--set {stage}_stage.accumulate={accumulate} (the same batch in more parts), or {mend}"
    return Finding(what, False, says, mend)


def _kept_features(config: Config) -> tuple[float, str]:
    """Return the gigabytes of kept features that a test's settings name, 0 where they name none, and a note."""
    gib = config.test.cache_gib
    if isinstance(gib, str):
        return 0.0, "; a CPU keeps features in up to half of the free memory besides: test.cache_gib = auto"
    kept = gib * GIB / GIGABYTE
    return kept, f"; {kept:.1f} GB of them kept features: test.cache_gib = {gib:g}" if kept else ""


def _batch_of(config: Config, stage: str) -> tuple[str, int, int]:
    """Return the key of a stage's batch size, the number of items in memory at once on one device, and their side."""
    if stage == TEST:
        return "test.batch", config.test.batch, config.data.size
    settings = getattr(config, f"{stage}_stage")
    return f"{stage}_stage.batch", math.ceil(settings.batch / settings.accumulate), config.stage_size(settings)


def measure(config: Config, stage: str) -> RamCost:
    """Return the RAM of a stage's step, measured in a process of its own.

    Raises:
        UserError: the smallest batches do not fit into the machine's RAM.
    """
    with ProcessPoolExecutor(1, get_context("forkserver"), configure_process, (stage != TEST,)) as pool:
        try:
            idle, one, two = pool.submit(_peaks, config, stage).result()
        except BrokenProcessPool:
            raise UserError("the machine's RAM is too small even for the smallest batches") from None
    each = two - one
    return RamCost(idle, one - MIN_BATCH[stage] * each, each)


def _peaks(config: Config, stage: str) -> tuple[float, float, float]:
    """Return the peaks in gigabytes: at the start, after a step of the smallest batch, after one of a batch + 1."""
    with as_user_error("data.size"):
        idle = _peak()
        step = _step(config, stage)
        step(MIN_BATCH[stage])
        one = _peak()
        step(MIN_BATCH[stage] + 1)
        return idle, one, _peak()


def _peak() -> float:
    """Return the process's peak RAM in gigabytes."""
    import resource  # POSIX only; the other commands of prepare.py need no such system

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB / GIGABYTE


def _step(config: Config, stage: str) -> Callable[[int], None]:
    """Return a function that runs a step of a stage with a batch of random noise."""
    model_class, precision = class_of(config.model), config.run.precision
    network = build_model(config, NAME_VECTOR_WIDTH if model_class.reads_text else 0)
    draw = _images if stage == BASE else _episodes
    cpu, side = pick_device("cpu"), _batch_of(config, stage)[2]
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
        sum(losses.values(), start=torch.zeros(())).backward()
        for optimizer in optimizers.values():
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)

    return train


def _images(config: Config, batch: int, side: int) -> Batch:
    """Return a batch of noise for the base stage."""
    return LabelledImages(_noise(batch, 3, side, side), _labels(config, batch, side))


def _episodes(config: Config, batch: int, side: int) -> Batch:
    """Return a batch of episodes of noise; the object is the upper half of each image."""
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
