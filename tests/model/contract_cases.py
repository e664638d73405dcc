"""Small models, their episodes and predictions, made once for all tests of the contract, which run on ``device``."""

import copy
import functools
from dataclasses import fields

import pytest
import torch
from torch import Tensor

from model.contract import FewShotModel, Trainable
from model.episode import Episode, LabelledImages, Output
from model.registry import models
from tests.model.small import WITH_ENCODER, drawn_episode, small_model

SHOTS, BATCH, STEPS = 3, 2, 4
RATE, BIG_RATE = 1e-3, 0.1
CLOSE = {"atol": 1e-4, "rtol": 1e-4}
NAMES = sorted(models())
with_encoder = pytest.mark.parametrize("name", WITH_ENCODER)
every_model = pytest.mark.parametrize("name", NAMES)
device = torch.device("cpu")  # that of ``--device``: tests/model/conftest.py


@functools.cache
def built(name: str, seed: int = 0) -> FewShotModel:
    return small_model(name, SHOTS, seed, **({"steps": 3} if name == "abcdfss" else {})).to(device)


def fresh_model(name: str, seed: int = 0) -> FewShotModel:
    return copy.deepcopy(built(name, seed))


@functools.cache
def episode_of(name: str) -> Episode:
    return drawn_episode(name, SHOTS, BATCH).to(device)


@torch.no_grad()
def predict(network: FewShotModel, episode: Episode) -> Output:
    return network.eval()(episode)


@functools.cache
def prediction_of(name: str) -> Output:
    """Return the untrained model's predictions for the episodes; many checks compare with it."""
    return predict(built(name), episode_of(name))


def chosen(episode: Episode, rows: slice) -> Episode:
    values = {f.name: getattr(episode, f.name) for f in fields(episode)}
    return Episode(**{k: v[rows] if isinstance(v, Tensor) else v for k, v in values.items()})


def state_of(network: torch.nn.Module) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in network.state_dict().items()}


def learns(name: str) -> bool:
    """Say whether the model trains, as it declares; one without parameter groups has nothing that could learn."""
    network = built(name)
    assert network.learns == bool(network.param_groups()) == any(p.requires_grad for p in network.parameters())
    return network.learns


def loss_of(network: Trainable, batch: Episode | LabelledImages) -> Tensor:
    torch.manual_seed(0)  # the same dropouts every time
    losses = network(batch).losses
    assert losses
    assert all(loss.ndim == 0 and loss.isfinite() for loss in losses.values()), losses
    return sum(losses.values())


def losses_of_training(network: Trainable, batch: Episode | LabelledImages, steps: int) -> list[float]:
    """Return the loss before each step and after the last."""
    groups = network.train().param_groups()
    optimizer = torch.optim.Adam([{"params": g.params, "lr": RATE * g.factor} for g in groups], lr=RATE)
    losses = []
    for _ in range(steps):
        loss = loss_of(network, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    with torch.no_grad():
        return [*losses, loss_of(network, batch).item()]
