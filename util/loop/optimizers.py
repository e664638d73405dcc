"""Optimisers by the names that configs give them (``OptimizerSettings.kind``)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from model.tables import Kind

MOMENTUM = 0.9  # of SGD
BETAS = (0.9, 0.999)  # beta_1, beta_2 of AdamW
Make = Callable[..., Optimizer]  # of groups of parameters, the learning rate and ``weight_decay``


@dataclass(frozen=True)
class OptimizerKind:
    """One kind of optimiser."""

    make: Make
    moments: int  # tensors that it keeps for each parameter, which checkpoints hold


OPTIMIZERS = Kind("optimizer", "optimizers.main.kind", lambda _, make, moments: OptimizerKind(make, moments))
# A function or class takes groups of parameters, the learning rate and ``weight_decay``.
register_optimizer = OPTIMIZERS.register


@register_optimizer("sgd", moments=1)
def sgd(groups: Iterable[Any], lr: float, weight_decay: float) -> Optimizer:
    """Return SGD with momentum."""
    return torch.optim.SGD(groups, lr, momentum=MOMENTUM, weight_decay=weight_decay)


@register_optimizer("nesterov", moments=1)
def nesterov(groups: Iterable[Any], lr: float, weight_decay: float) -> Optimizer:
    """Return SGD with Nesterov's momentum."""
    return torch.optim.SGD(groups, lr, momentum=MOMENTUM, weight_decay=weight_decay, nesterov=True)


@register_optimizer("adamw", moments=2)
def adamw(groups: Iterable[Any], lr: float, weight_decay: float) -> Optimizer:
    """Return AdamW."""
    return torch.optim.AdamW(groups, lr, betas=BETAS, weight_decay=weight_decay)
