"""The optimisers of a stage, built from the config and the parameter groups that the model declares."""

from __future__ import annotations

import torch
from torch.optim import Optimizer

from model.contract import ParamGroup
from util.config.settings import OptimizerSettings
from util.errors import UserError, nearest


def build_optimizers(groups: list[ParamGroup], settings: dict[str, OptimizerSettings]) -> dict[str, Optimizer]:
    """Return an optimiser for every name that the groups use; each torch group holds its learning-rate ``factor``.

    Raises:
        UserError: a group names an optimiser that the config lacks, or the config has one that no group names.
    """
    out: dict[str, Optimizer] = {}
    used = {group.optimizer for group in groups}
    for name in settings.keys() - used:
        raise UserError(f"'optimizers' has an entry '{name}' that this model does not use{nearest(name, used)}")
    for name in dict.fromkeys(group.optimizer for group in groups):
        if name not in settings:
            raise UserError(f"the model wants an optimiser '{name}' under 'optimizers'{nearest(name, settings)}")
        out[name] = _build(settings[name], [group for group in groups if group.optimizer == name])
    return out


def _build(settings: OptimizerSettings, groups: list[ParamGroup]) -> Optimizer:
    lr, weight_decay = settings.lr, settings.weight_decay
    tensors = [{"params": g.params, "factor": g.factor, "name": g.name, "lr": lr * g.factor} for g in groups]
    if settings.kind == "sgd":
        momentum, nesterov = settings.momentum, settings.nesterov
        return torch.optim.SGD(tensors, lr=lr, momentum=momentum, nesterov=nesterov, weight_decay=weight_decay)
    first, second = settings.betas
    return torch.optim.AdamW(tensors, lr=lr, betas=(first, second), weight_decay=weight_decay)


def load_optimizers(optimizers: dict[str, Optimizer], states: dict[str, dict]) -> None:
    """Load momenta and step counts from saved states; learning rates, factors and decay stay those of the config.

    Raises:
        KeyError, ValueError: the states are of other optimisers or parameters.
    """
    for name, optimizer in optimizers.items():
        configured = [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups]
        optimizer.load_state_dict(states[name])
        for group, settings in zip(optimizer.param_groups, configured, strict=True):
            group.update(settings)
