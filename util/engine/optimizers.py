"""Optimisers and learning-rate schedules, from what the config says and what the model declares."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from model.contract import ParamGroup
from util.config.settings import OptimizerSettings
from util.errors import UserError, nearest


def build_optimizers(groups: list[ParamGroup], settings: dict[str, OptimizerSettings]) -> dict[str, Optimizer]:
    """Return an optimiser for every name that the groups use; each torch group remembers its ``factor``.

    Raises:
        UserError: a group wants an optimiser that the config does not have.
    """
    out: dict[str, Optimizer] = {}
    used = {group.optimizer for group in groups}
    for name in settings.keys() - used:
        raise UserError(f"'optimizers' has an entry '{name}' that this model does not use{nearest(name, used)}")
    for name in dict.fromkeys(group.optimizer for group in groups):
        if name not in settings:
            raise UserError(f"the model wants an optimiser '{name}' under 'optimizers'{nearest(name, settings)}")
        chosen = settings[name]
        tensors = [
            {"params": g.params, "factor": g.factor, "name": g.name, "lr": chosen.lr * g.factor}
            for g in groups
            if g.optimizer == name
        ]
        if chosen.kind == "sgd":
            out[name] = torch.optim.SGD(
                tensors,
                lr=chosen.lr,
                momentum=chosen.momentum,
                nesterov=chosen.nesterov,
                weight_decay=chosen.weight_decay,
            )
        else:
            out[name] = torch.optim.AdamW(
                tensors, lr=chosen.lr, betas=tuple(chosen.betas), weight_decay=chosen.weight_decay
            )
    return out


def schedule(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return what the learning rate is multiplied by in step 0..steps - 1, a pure function of the step.

    ``poly`` counts steps from 1, as published: (1 - (step + 1) / steps) ^ power.
    """
    if settings.schedule == "poly":
        return (1 - (step + 1) / steps) ** settings.power
    if settings.schedule == "step":
        return settings.decay ** sum(step >= share * steps for share in settings.milestones)
    return 1.0


def set_learning_rates(
    optimizers: dict[str, Optimizer], settings: dict[str, OptimizerSettings], step: int, steps: int
) -> dict[str, float]:
    """Set every group's learning rate for a step and return them by ``optimizer/group``."""
    rates = {}
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = settings[name].lr * group["factor"] * schedule(settings[name], step, steps)
            rates[f"{name}/{group['name']}"] = group["lr"]
    return rates


def load_optimizers(optimizers: dict[str, Optimizer], states: dict[str, dict]) -> None:
    """Take over momenta and the like from saved states; learning rates, factors and decay stay those of the config.

    Raises:
        KeyError, ValueError: the states are of other optimisers or parameters.
    """
    for name, optimizer in optimizers.items():
        configured = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        optimizer.load_state_dict(states[name])
        for group, settings in zip(optimizer.param_groups, configured, strict=True):
            group.update(settings)
