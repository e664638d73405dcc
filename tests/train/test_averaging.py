"""The moving average of weights."""

import torch
from torch import nn

from util.train.optim import EMA, WARM_UP


def network(value: float) -> nn.Module:
    net = nn.Sequential(nn.Linear(2, 1, bias=False), nn.Linear(1, 1, bias=False))
    net.requires_grad_(False)
    net[0].requires_grad_(True)
    for p in net.parameters():
        p.data.fill_(value)
    return net


def test_average_decays_and_weights_are_restored():
    net = network(0.0)
    average = EMA(net, decay=0.9)
    expected = 0.0
    for step in range(1, 200):
        net[0].weight.data.fill_(float(step))
        average.update(step)
        decay = min(0.9, (1 + step) / (WARM_UP + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert torch.allclose(net[0].weight, torch.full((1, 2), expected))
        assert net[1].weight.item() == 0.0
    assert net[0].weight[0, 0].item() == 199.0
