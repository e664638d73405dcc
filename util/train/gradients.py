"""Losses and gradients of a batch: by a backward pass, or by a replayed one that writes where it wrote before."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from model.episode import Batch
from util.runtime.device import autocast
from util.runtime.graphs import Replayed
from util.runtime.network import PreparedNetwork
from util.runtime.processes import ProcessGroup


@dataclass
class Gradients(Batch):
    """The losses of a batch and the gradients of their sum."""

    losses: dict[str, Tensor]
    gradients: list[Tensor | None]  # of the parameters that learn, in order; None for one without influence


def replayed_gradients(
    prepared: PreparedNetwork, accumulate: int, world: ProcessGroup | None = None
) -> Replayed | None:
    """Return the replayed pass of a training, None where its predictions are not replayed or it cannot be.

    It cannot where several passes add up, or in fp16, whose scale changes. ``world``: the processes that train
    together, None: this process alone.
    """
    if prepared.replayed is None or accumulate > 1 or prepared.precision == "fp16":
        return None
    call = partial(_gradients, prepared.network, prepared.device, prepared.precision)
    record = prepared.replayed.record
    return Replayed(call, prepared.network, prepared.precision, copies=False, record=record, world=world)


def _gradients(network: nn.Module, device: torch.device, precision: str, batches: Sequence[Batch]) -> Gradients:
    with autocast(device, precision):
        losses = network(batches[0]).losses
    parameters = [p for p in network.parameters() if p.requires_grad]
    gradients = torch.autograd.grad(sum(losses.values()), parameters, allow_unused=True)
    detached = {name: loss.detach() for name, loss in losses.items()}
    return Gradients(detached, _with_separate_memory(parameters, gradients))


def _with_separate_memory(parameters: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> list[Tensor | None]:
    """Return gradients that have the layout of their parameters and no memory in common, as a backward pass leaves."""
    separate = list[Tensor | None]()
    addresses = set[int]()
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if gradient is not None:
            if gradient.stride() != parameter.stride() or gradient.data_ptr() in addresses:
                gradient = torch.empty_like(parameter).copy_(gradient)
            addresses.add(gradient.data_ptr())
        separate.append(gradient)
    return separate


def replay(replayed: Replayed, batch: Any) -> dict[str, Tensor]:
    """Return the losses of a batch, and let the parameters have the gradients until the next call.

    They are means over the processes that train together, as after the backward pass of DistributedDataParallel.
    """
    output: Any = replayed([batch])
    if replayed.world.size > 1:
        _average([x for x in output.gradients if x is not None], replayed.world)
    parameters = [p for p in replayed.network.parameters() if p.requires_grad]
    for parameter, gradient in zip(parameters, output.gradients, strict=True):
        parameter.grad = gradient
    return output.losses


def _average(gradients: Sequence[Tensor], world: ProcessGroup) -> None:
    """Give gradients the mean of their values over processes, in one exchange."""
    values = torch.cat([gradient.flatten() for gradient in gradients])
    means = world.sum(values) / world.size
    for gradient, mean in zip(gradients, means.split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view(gradient.shape))


def backward(
    prepared: PreparedNetwork, scaler: torch.amp.GradScaler, batch: Any, parts: int, last: bool
) -> dict[str, Tensor]:
    """Return the losses of a part of a batch, and add its share to the gradients.

    Args:
        prepared: the network.
        scaler: of losses in fp16.
        batch: the part.
        parts: the number of parts of the batch.
        last: whether it is the last part, after which processes sum their gradients.
    """
    learner: Any = prepared.learner
    synchronising: AbstractContextManager[None] = nullcontext()
    if isinstance(learner, DistributedDataParallel) and not last:  # the last sums over processes
        synchronising = learner.no_sync()
    with synchronising:
        with prepared.autocast():
            losses = learner(batch).losses
        scaler.scale(sum(losses.values()) / parts).backward()
    return losses
