"""Learning-rate schedules: the factor of each step (poly, step, constant), and setting the rates of the optimisers."""

from __future__ import annotations

from torch.optim import Optimizer

from util.config.settings import OptimizerSettings


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
