"""Part 6: training steps whose batch doubles until memory is spent end in the line of advice, and the process goes on.

On a GPU the memory of the process is limited first, to little more than the network takes. On a CPU the batch is larger
than any address space, so that the first allocation is refused.
"""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmark.gpu.meter import free
from benchmark.gpu.settings import Settings
from benchmark.gpu.steps import episodes, network_of, training_step
from benchmark.process import MIB
from benchmark.reporting import Table
from model.episode import Episode
from util.engine.device import CUDA
from util.engine.errors import as_user_error, memory_settings
from util.engine.network import FLOAT32
from util.errors import UserError

TITLE = "out of memory"
NEEDS: tuple[str, ...] = ()
SECONDS, CONTINUES = 40, False
MODEL = "symnet"
ROOM = 2048 * MIB  # beyond the network, of the GPU
MOST_DOUBLINGS = 12
BEYOND_ALL = 2**40  # episodes, more than 2^47 bytes of an address space hold
ADVICE = "lower meta_stage.batch"


def units(settings: Settings) -> dict[str, Any]:
    """Return the one unit."""
    return {"training step": partial(_spent)}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return the batch at which memory was spent, and the line."""
    header = ["case", "episodes of a batch", "line", "a step afterwards"]
    lines = [[name, f"{row['batch']:,}", row["line"], "works"] for name, row in results.items()]
    return {f"{MODEL}, training step": (header, lines)} if lines else {}


def _spent(settings: Settings) -> dict[str, Any]:
    """Return the error of the first batch that is too large.

    Raises:
        RuntimeError: no batch was, the error is another, or a small batch fails afterwards.
    """
    device = settings.place
    network = network_of(MODEL, settings.quick, device)
    one = episodes(network, device, 1)
    step = partial(training_step(network, network, FLOAT32), one)
    step()
    network.zero_grad(set_to_none=True)
    batches = [2**n for n in range(MOST_DOUBLINGS)] if device.type == CUDA else [BEYOND_ALL]
    try:
        if device.type == CUDA:
            _limit(device)
        batch, line = next((found for size in batches if (found := _line(network, one, size))), (0, ""))
    finally:
        if device.type == CUDA:
            torch.cuda.set_per_process_memory_fraction(1.0, device)
    network.zero_grad(set_to_none=True)
    free(device)
    if ADVICE not in line:
        raise RuntimeError(f"no line of advice: {line or f'batches up to {batches[-1]} fit'}")
    step()
    if device.type == CUDA:
        torch.cuda.synchronize(device)
    return {"batch": batch, "line": line}


def _limit(device: torch.device) -> None:
    """Limit what torch may allocate in this process to little more than it holds."""
    free(device)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.set_per_process_memory_fraction(min((torch.cuda.memory_reserved(device) + ROOM) / total, 1.0), device)


def _line(network: torch.nn.Module, one: Episode, batch: int) -> tuple[int, str] | None:
    """Return (batch, the line of the error) of a training step over copies of an episode; None if it fits."""
    try:
        with as_user_error(memory_settings("meta")):
            sum(network(_repeated(one, batch)).losses.values()).backward()
    except UserError as error:
        return batch, str(error)
    return None


def _repeated(one: Episode, batch: int) -> Episode:
    """Return a batch of one episode's tensors; those beyond an address space are views of it."""

    def many(x: Tensor) -> Tensor:
        views = x.expand(batch, *x.shape[1:])
        return views if batch == BEYOND_ALL else views.contiguous()

    given = {field.name: getattr(one, field.name) for field in fields(one)}
    repeated: dict[str, Any] = {n: many(value) if isinstance(value, Tensor) else value for n, value in given.items()}
    return Episode(**repeated)
