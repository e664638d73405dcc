"""The word about the faster precision: when it comes, and that it leaves no trace in network and random state."""

import copy

import pytest
import torch
from torch import nn

from util.config.read import read_config
from util.run import precision
from util.run.network import prepare_network
from util.run.processes import World


@pytest.mark.parametrize(("own", "times"), [("float32", 10**6), ("bf16", 10**6), ("float32", 150)])
def test_the_faster_precision_is_named(mini_yaml, caplog, monkeypatch, own: str, times: int) -> None:
    clock, world = [0], World(0, 1, torch.device("cpu"))
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()

    def do(seen: nn.Sequential, batch: torch.Tensor) -> None:
        seen(batch).sum().backward()
        clock[0] += 1 if seen[0](batch).dtype == torch.bfloat16 else 3

    caplog.set_level("INFO", "symnet")
    prepared = prepare_network(network, world.device, own)
    precision.say_faster_precision(
        read_config(mini_yaml()), world, prepared, "a part", times, lambda: torch.ones(4, 3), do
    )
    assert ("run.precision=bf16" in caplog.text) == (own == "float32" and times > 150)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items()) and network[0].weight.grad is None
    assert torch.equal(state, torch.get_rng_state())
