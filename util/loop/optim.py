"""The optimisers of a stage, its steps and learning rates, and the moving average of its weights."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from model.contract import ParamGroup
from model.registration import Registry
from util.files.errors import UserError, call_foreign
from util.loop.optimizer_kinds import OPTIMIZERS

POWER = 0.9  # of the schedule ``poly``
MILESTONES = (0.3333333, 0.6666666)  # of the schedule ``step``: shares of all steps
DECAY = 0.1  # of the learning rate at each of them
OptimizerRule = Any  # the settings of one optimiser, ``OptimizerSettings`` of a config
History = Sequence[dict[str, Any]]  # the records of a training so far
WARM_UP = 10  # an average's decay is at most (1 + step) / (WARM_UP + step): early weights are soon forgotten


def build_optimizers(
    groups: list[ParamGroup], settings: Mapping[str, OptimizerRule], key: str = "optimizers"
) -> dict[str, Optimizer]:
    """Return an optimiser for every name that the groups use; each torch group holds its learning-rate ``factor``.

    UserError: the names differ from those of the config, which has them under ``key``, or the model has nothing to
    train.
    """
    members = dict[str, list[ParamGroup]]()
    for group in groups:
        members.setdefault(group.optimizer, []).append(group)
    if members.keys() != settings.keys():
        names = ", ".join(members) or "none: it has nothing to train, test it directly"
        named = ", ".join(f"{key}.{name}" for name in sorted(settings.keys() ^ members.keys()))
        raise UserError(
            f"{named}: the method has groups for {names}; the config has {', '.join(settings)}",
            fix="write the same names in both (the method's are the optimizer of ParamGroup, default main)",
        )
    return {name: _optimizer(members[name], settings[name]) for name in members}


def _optimizer(groups: list[ParamGroup], settings: OptimizerRule) -> Optimizer:
    """Return the optimiser of some groups of parameters."""
    tensors = [{"params": g.params, "factor": g.factor, "name": g.name, "lr": settings.lr * g.factor} for g in groups]
    return OPTIMIZERS[settings.kind].make(tensors, settings.lr, weight_decay=settings.weight_decay)


def clip_gradients(optimizers: Mapping[str, Optimizer], rules: Mapping[str, OptimizerRule]) -> None:
    """Scale the gradients of each optimiser with a ``clip`` so that their norm, of all together, is at most that."""
    for name, optimizer in optimizers.items():
        if name in rules and (largest := rules[name].clip):
            nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], largest)


class OptimizersAsOne:
    """Several optimisers as one for torch's loss scaling, which leaves out the step of all or of none."""

    def __init__(self, optimizers: Iterable[Optimizer]):
        self.optimizers = [*optimizers]
        self.param_groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> bool:
        """Do the step of each, and return that it was done."""
        for optimizer in self.optimizers:
            optimizer.step()
        return True


def load_optimizers(optimizers: dict[str, Optimizer], states: dict[str, dict]) -> None:
    """Load momenta and step counts from saved states; learning rates, factors and decay stay those of the config.

    KeyError, ValueError: the states are of other optimisers or parameters.
    """
    for name, optimizer in optimizers.items():
        configured = [{**group} for group in optimizer.param_groups]
        optimizer.load_state_dict(states[name])
        for group, settings in zip(optimizer.param_groups, configured, strict=True):
            group.update(settings)


@dataclass
class StepSchedule:
    """The number of optimiser steps of a stage; a checkpoint can only continue under the same one."""

    steps_per_epoch: int
    steps: int
    batch: int  # over all processes

    @classmethod
    def from_settings(cls, stage: Any, epoch_length: int, processes: int, key: str) -> StepSchedule:
        """Return the schedule of a stage by its ``StageSettings``, the section ``key``, for epochs of so many examples.

        UserError: the batch is too small for the processes and the parts of an accumulated batch.
        """
        of_process = 2 if key == "base_stage" else 1  # its batch norms learn
        most = stage.batch // (of_process * stage.accumulate)
        if processes > most:
            fix = f"take at least {processes * of_process * stage.accumulate}"
            if most:
                fix += f", or {most} GPUs in all for it (--stage {key.removesuffix('_stage')})"
            raise UserError(
                f"{key}.batch = {stage.batch} is too small for {processes} processes and "
                f"{key}.accumulate = {stage.accumulate}",
                fix=fix,
            )
        per_epoch = max(epoch_length // stage.batch, 1)
        return cls(steps_per_epoch=per_epoch, steps=per_epoch * stage.epochs, batch=stage.batch)

    @property
    def epochs(self) -> int:
        """The number of epochs of the whole stage."""
        return self.steps // self.steps_per_epoch


# A schedule returns the factor of the learning rate in step 0..steps - 1, a pure function of the step and of the
# records of the training so far (``Progress.history``), which hold its validations.
SCHEDULES = Registry("schedule", "optimizers.main.schedule")


@SCHEDULES.register("poly")
def poly(step: int, steps: int, _: History) -> float:
    """Return (1 - (step + 1) / steps) ^ POWER, which counts steps from 1 as the published code does."""
    return (1 - (step + 1) / steps) ** POWER


@SCHEDULES.register("cosine")
def cosine(step: int, steps: int, _: History) -> float:
    """Return half a wave from 1 in step 0 to 0 after the last."""
    return (1 + math.cos(math.pi * step / steps)) / 2


@SCHEDULES.register("step")
def by_milestones(step: int, steps: int, _: History) -> float:
    """Return DECAY to the number of MILESTONES that are passed."""
    return DECAY ** sum(step >= share * steps for share in MILESTONES)


@SCHEDULES.register("constant")
def constant(*_: Any) -> float:
    """Return 1."""
    return 1.0


def set_learning_rates(
    optimizers: dict[str, Optimizer],
    settings: Mapping[str, OptimizerRule],
    step: int,
    steps: int,
    history: History = (),
) -> dict[str, float]:
    """Set every group's learning rate for a step; return the rates by ``optimizer/group``."""
    rates = {}
    for name, optimizer in optimizers.items():
        kind = settings[name].schedule
        factor = call_foreign(f"schedule {kind}", SCHEDULES[kind], step, steps, history)
        for group in optimizer.param_groups:
            rate = settings[name].lr * group["factor"] * factor
            group["lr"] = rate
            rates[f"{name}/{group['name']}"] = rate
    return rates


class EMA:
    """The exponential moving average of a network's trainable parameters; buffers stay the network's own.

    ``decay`` is the share of it that stays in each step; about 1 / (1 - decay) steps count. 0 keeps no average.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.decay = decay
        self._learning = {n: p for n, p in network.named_parameters() if p.requires_grad} if decay else {}
        self.average = {name: p.detach().clone() for name, p in self._learning.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Add the weights after so many steps to the average."""
        decay = min(self.decay, (1 + step) / (WARM_UP + step))
        for name, tensor in self._learning.items():
            self.average[name].lerp_(tensor, 1 - decay)

    @contextmanager
    @torch.no_grad()
    def applied(self) -> Iterator[None]:
        """Replace the network's weights by the average inside the block."""
        weights = {name: tensor.clone() for name, tensor in self._learning.items()}
        try:
            copy_tensors(self.average, self._learning)
            yield
        finally:
            copy_tensors(weights, self._learning)


@torch.no_grad()
def copy_tensors(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    """Copy the values of named tensors into those of the same names; KeyError if the source lacks one."""
    for name, tensor in target.items():
        tensor.copy_(source[name])
