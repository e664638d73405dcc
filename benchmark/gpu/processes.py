"""Part 5: training by several processes gives the losses and weights of one: NCCL alone, and gloo twice on one card."""

from __future__ import annotations

import tempfile
import traceback
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import distributed, nn

from benchmark import process
from benchmark.gpu.parity import exact_float32
from benchmark.gpu.settings import Settings, Skipped
from benchmark.gpu.steps import episodes, network_of
from benchmark.reporting import Table
from model.contract import FewShotModel
from model.episode import Batch, Episode
from util.engine.configure_process import configure_process
from util.engine.device import CUDA
from util.engine.network import prepare_network
from util.engine.processes import World
from util.errors import one_line

TITLE = "processes"
NEEDS: tuple[str, ...] = ()
SECONDS, CONTINUES = 90, False
MODEL, STEPS, BATCH = "symnet", 3, 4
RATE = 0.01
LIMIT = 150  # seconds of a group
NCCL, GLOO = "nccl", "gloo"
GROUPS = {"NCCL, 1 process": (NCCL, 1), "gloo, 2 processes on one device": (GLOO, 2)}
LOSS_RELATIVE, WEIGHT_ABSOLUTE = 1e-4, 1e-4
Trained = tuple[list[float], dict[str, torch.Tensor]]  # the loss of each step, and the learnable parameters


def units(settings: Settings) -> dict[str, Any]:
    """Return a unit for each group of processes."""
    return {name: partial(_compared, backend, size) for name, (backend, size) in GROUPS.items()}


def tables(results: dict[str, dict[str, Any]]) -> dict[str, Table]:
    """Return the differences to a single process."""
    header = ["group", "losses", "of one process", "largest relative difference", "largest of a weight", "equal"]
    lines = [
        [
            name,
            _listed(row["losses"]),
            _listed(row["single"]),
            f"{row['loss']:.1e}",
            f"{row['weight']:.1e}",
            "yes" if row["equal"] else "NO",
        ]
        for name, row in results.items()
    ]
    return {f"{MODEL}, {STEPS} steps of {BATCH} episodes, float32 without TF32": (header, lines)} if lines else {}


def _listed(values: list[float]) -> str:
    return ", ".join(f"{value:.6f}" for value in values)


def _compared(backend: str, size: int, settings: Settings) -> dict[str, Any]:
    """Return the losses of a group and of a single process, and their differences.

    Raises:
        RuntimeError: a process failed or hangs, or the results differ.
    """
    if backend == NCCL and (settings.place.type != CUDA or not distributed.is_nccl_available()):
        raise Skipped("needs CUDA and NCCL")
    alone, alone_weights = trained(World(0, 1, settings.place), settings.quick)
    losses, weights = _group(backend, size, settings)
    loss = max(abs(a - b) / abs(a) for a, b in zip(alone, losses, strict=True))
    weight = max(float((weights[n] - tensor).abs().max()) for n, tensor in alone_weights.items())
    equal = loss <= LOSS_RELATIVE and weight <= WEIGHT_ABSOLUTE
    return {"losses": losses, "single": alone, "loss": loss, "weight": weight, "equal": equal}


def _group(backend: str, size: int, settings: Settings) -> Trained:
    """Train in processes of one group; return the first one's result."""
    context: Any = get_context(process.START_METHOD)
    with tempfile.TemporaryDirectory() as folder:
        words = (backend, size, settings.device, settings.quick, folder)
        children = [context.Process(target=_member, args=(rank, *words)) for rank in range(size)]
        for child in children:
            child.start()
        for child in children:
            child.join(LIMIT)
        hanging = [child for child in children if child.is_alive()]
        for child in hanging:
            child.kill()
            child.join()
        errors = [path.read_text() for path in sorted(Path(folder).glob("error*"))]
        if errors or hanging or not (done := Path(folder, "trained.pth")).exists():
            raise RuntimeError(errors[0] if errors else f"{len(hanging)} of {size} processes hung or ended early")
        content = torch.load(done, weights_only=True)
    return content["losses"], content["weights"]


def _member(rank: int, backend: str, size: int, device: str, quick: bool, folder: str) -> None:
    """Be process ``rank`` of a group; all are on the same device."""
    configure_process()
    torch.set_num_threads(1)
    place = torch.device(device)
    try:
        if place.type == CUDA:
            torch.cuda.set_device(place)
        distributed.init_process_group(backend, init_method=f"file://{folder}/meeting", rank=rank, world_size=size)
        losses, weights = trained(World(rank, size, place), quick, in_group=True)
        if rank == 0:
            torch.save({"losses": losses, "weights": weights}, Path(folder, "trained.pth"))
        distributed.barrier()
        distributed.destroy_process_group()
    except Exception as error:
        lines = one_line(traceback.format_exc()[-1500:])
        Path(folder, f"error{rank}").write_text(f"{type(error).__name__}: {one_line(error)} [{lines}]")


def trained(world: World, quick: bool, in_group: bool = False) -> Trained:
    """Return the result of a few steps without dropout; each process of the group takes its part of every batch.

    Args:
        in_group: wrap the network as for several processes, also where the group has one.
    """
    network = network_of(MODEL, quick, world.device)
    for module in network.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    prepared = prepare_network(network, world.device, processes=2 if in_group else 1)
    network.train()
    optimizer = torch.optim.SGD([{"params": group.params} for group in network.param_groups()], lr=RATE)
    share, losses = _share(network, world), []
    with exact_float32():
        for _ in range(STEPS):
            optimizer.zero_grad(set_to_none=True)
            loss = sum(prepared.learner(share).losses.values())
            loss.backward()
            optimizer.step()
            losses.append(float(world.sum(loss.detach().clone())) / world.size)
    learnt = {name: p.detach().cpu() for name, p in network.named_parameters() if p.requires_grad}
    return losses, learnt


def _share(network: FewShotModel, world: World) -> Episode:
    """Return a process's part of the batch."""
    whole = episodes(network, world.device, BATCH)
    part = BATCH // world.size
    cut = Batch._each(whole, lambda tensor: tensor[world.rank * part : (world.rank + 1) * part])
    assert isinstance(cut, Episode)
    return cut
