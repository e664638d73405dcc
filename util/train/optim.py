"""The optimisers of a stage, built from the config and the parameter groups that the model declares."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
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


# --- learning rates --------------------------------------------------------------------------------------------------


def lr_factor(settings: OptimizerSettings, step: int, steps: int) -> float:
    """Return the factor of the learning rate in step 0..steps - 1, a pure function of the step.

    ``poly`` is (1 - (step + 1) / steps) ^ power, which counts steps from 1 as the published code does; ``step`` is
    ``decay`` to the number of ``milestones`` (shares of all steps) that are passed; ``constant`` is 1.
    """
    if settings.schedule == "poly":
        return (1 - (step + 1) / steps) ** settings.power
    if settings.schedule == "step":
        return settings.decay ** sum(step >= share * steps for share in settings.milestones)
    return 1.0


def set_learning_rates(
    optimizers: dict[str, Optimizer], settings: dict[str, OptimizerSettings], step: int, steps: int
) -> dict[str, float]:
    """Set every group's learning rate for a step; return the rates by ``optimizer/group``."""
    rates = {}
    for name, optimizer in optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = settings[name].lr * group["factor"] * lr_factor(settings[name], step, steps)
            rates[f"{name}/{group['name']}"] = group["lr"]
    return rates


# --- moving average of the weights -----------------------------------------------------------------------------------


WARM_UP = 10  # the decay is at most (1 + step) / (WARM_UP + step), so that early weights are soon forgotten


class EMA:
    """The exponential moving average of a network's trainable parameters; buffers stay the network's own.

    Args:
        decay: share of the average that stays in each step; about 1 / (1 - decay) steps count.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._learning = {name: p for name, p in network.named_parameters() if p.requires_grad}
        self._average = {name: p.detach().clone() for name, p in self._learning.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after so many steps to the average."""
        decay = min(self.decay, (1 + step) / (WARM_UP + step))
        for name, tensor in self._learning.items():
            self._average[name].lerp_(tensor, 1 - decay)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Replace the network's weights by the average inside the block."""
        own = {name: tensor.clone() for name, tensor in self._learning.items()}
        try:
            self._fill(self._average)
            yield
        finally:
            self._fill(own)

    def _fill(self, values: dict[str, Tensor]) -> None:
        for name, tensor in self._learning.items():
            tensor.copy_(values[name])

    def state(self) -> dict[str, Tensor]:
        """Return the average, for a checkpoint."""
        return self._average

    def load(self, state: dict[str, Tensor]) -> None:
        """Replace the average by that of a checkpoint.

        Raises:
            KeyError: it lacks a tensor.
        """
        for name, tensor in self._average.items():
            tensor.copy_(state[name])
