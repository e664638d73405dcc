"""Optimisers: every kind that a config may name is there, and what it keeps is counted before it is written."""

import pytest
import torch

from model.contract import ParamGroup
from util.config.settings import OptimizerSettings
from util.loop.optim import build_optimizers
from util.loop.optimizers import OPTIMIZERS


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_an_optimiser_keeps_as_many_tensors_as_are_counted(kind: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    groups = [ParamGroup("all", [weight])]
    optimizer = build_optimizers(groups, {"main": OptimizerSettings(kind=kind)})["main"]
    weight.sum().backward()
    optimizer.step()
    kept = [value for value in optimizer.state[weight].values() if value.shape == weight.shape]
    assert len(kept) == OPTIMIZERS[kind].moments
