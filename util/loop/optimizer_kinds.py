"""Optimisers by the names that configs give them (``OptimizerSettings.kind``)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from model.registration import Registry

MOMENTUM = 0.9  # of SGD


@dataclass(frozen=True)
class OptimizerKind:
    """One kind of optimiser."""

    make: Callable[..., Optimizer]  # of groups of parameters, the learning rate and ``weight_decay``
    moments: int  # tensors that it keeps for each parameter, which checkpoints hold


# A function or class takes groups of parameters, the learning rate and ``weight_decay``.
OPTIMIZERS = Registry("optimizer", "optimizers.main.kind", lambda _, make, moments: OptimizerKind(make, moments))


@OPTIMIZERS.register("sgd", moments=1)
def sgd(groups: Iterable[Any], lr: float, weight_decay: float) -> Optimizer:
    """Return SGD with momentum."""
    return torch.optim.SGD(groups, lr, momentum=MOMENTUM, weight_decay=weight_decay)


@OPTIMIZERS.register("nesterov", moments=1)
def nesterov(groups: Iterable[Any], lr: float, weight_decay: float) -> Optimizer:
    """Return SGD with Nesterov's momentum."""
    return torch.optim.SGD(groups, lr, momentum=MOMENTUM, weight_decay=weight_decay, nesterov=True)


@OPTIMIZERS.register("adamw", moments=2)
def adamw(groups: Iterable[Any], lr: float, weight_decay: float) -> Optimizer:
    """Return AdamW."""
    return torch.optim.AdamW(groups, lr, weight_decay=weight_decay)
