"""Optimisers: every kind that a config may name is there, and what it keeps is counted before it is written."""

from typing import get_args, get_type_hints

import pytest
import torch

from model.contract import ParamGroup
from util.config.settings import MOMENTS, OptimizerSettings
from util.train.optim import build_optimizers

KINDS = get_args(get_type_hints(OptimizerSettings)["kind"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimiser_keeps_as_many_tensors_as_are_counted(kind: str) -> None:
    weight = torch.nn.Parameter(torch.ones(3, 2))
    groups = [ParamGroup("all", [weight])]
    optimizer = build_optimizers(groups, {"main": OptimizerSettings(kind=kind)})["main"]
    weight.sum().backward()
    optimizer.step()
    kept = [value for value in optimizer.state[weight].values() if value.shape == weight.shape]
    assert len(kept) == MOMENTS[kind]
