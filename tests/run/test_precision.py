"""The word about the faster precision: when it comes, and that it leaves no trace in network and random state."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from util.config.read import read_config
from util.run import precision
from util.run.network import PreparedNetwork, prepare_network
from util.run.processes import World


@pytest.mark.parametrize(
    ("own", "times", "said"), [("float32", 10**6, True), ("bf16", 10**6, False), ("float32", 150, False)]
)
def test_the_faster_precision_is_named(mini_yaml, caplog, monkeypatch, own: str, times: int, said: bool) -> None:
    clock = [0]
    monkeypatch.setattr(precision.time, "perf_counter", lambda: clock[0])
    network = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Dropout())
    prepared = prepare_network(network, torch.device("cpu"), own)
    before, state = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()

    def do(seen: PreparedNetwork) -> None:
        with seen.autocast():
            seen.network(torch.ones(4, 3)).sum().backward()
        clock[0] += 1 if seen.precision == "bf16" else 3

    with caplog.at_level("INFO", "symnet"):
        precision.say_faster_precision(
            read_config(mini_yaml()), World(0, 1, prepared.device), prepared, "a part", times, do
        )
    assert ("run.precision=bf16" in caplog.text) == said
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    assert torch.equal(state, torch.get_rng_state()) and network[0].weight.grad is None
