"""Optimisers by the names that configs give them (``OptimizerSettings.kind``)."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import torch
from torch.optim import Optimizer

from model.tables import add_once
from util.files.errors import nearest

MOMENTUM = 0.9  # of SGD
BETAS = (0.9, 0.999)  # beta_1, beta_2 of AdamW
Make = Callable[..., Optimizer]  # of groups of parameters, the learning rate and ``weight_decay``


@dataclass(frozen=True)
class OptimizerKind:
    """One kind of optimiser."""

    make: Make
    moments: int  # tensors that it keeps for each parameter, which checkpoints hold


OPTIMIZERS: dict[str, OptimizerKind] = {}


def register_optimizer(name: str, moments: int) -> Callable[[Make], Make]:
    """Return a decorator of a function or class that makes it available as ``optimizers.main.kind: <name>``.

    It takes groups of parameters, the learning rate and ``weight_decay``, and keeps ``moments`` tensors for each
    parameter. ValueError: another module has registered the name.
    """

    def add(make: Make) -> Make:
        add_once(OPTIMIZERS, name, OptimizerKind(make, moments), "optimizers.main.kind", attrgetter("make"))
        return make

    return add


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


def unknown_optimizer(kind: str) -> str | None:
    """Say that an optimiser is not known."""
    return None if kind in OPTIMIZERS else f"no such optimiser{nearest(kind, OPTIMIZERS)}"
