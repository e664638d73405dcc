"""Losses and gradients of a part of a batch."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from util.run.network import PreparedNetwork


def backward(
    prepared: PreparedNetwork, scaler: torch.amp.GradScaler, batch: Any, weight: float, last: bool
) -> dict[str, Tensor]:
    """Return the losses of a part of a batch, and add its share to the gradients.

    Args:
        prepared: the network.
        scaler: of losses in fp16.
        batch: the part.
        weight: of the part in the batch.
        last: whether it is the last part, after which processes sum their gradients.
    """
    learner: Any = prepared.learner
    synchronising: AbstractContextManager[None] = nullcontext()
    if isinstance(learner, DistributedDataParallel) and not last:  # the last sums over processes
        synchronising = learner.no_sync()
    with synchronising:
        with prepared.autocast():
            losses = learner(batch).losses
        scaler.scale(weight * sum(losses.values())).backward()
    return losses
