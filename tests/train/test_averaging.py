"""The moving average of weights, and the signals that end a run."""

import os
import signal

import pytest
import torch
from torch import nn

from util.train.hooks import Interrupt
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


@pytest.mark.parametrize("before", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_closed_terminal_interrupts_a_run_that_does_not_ignore_it(before: signal.Handlers) -> None:
    restored = signal.signal(signal.SIGHUP, before)
    try:
        with Interrupt() as interrupt:
            os.kill(os.getpid(), signal.SIGHUP)
        assert interrupt.requested == (before != signal.SIG_IGN)
        assert signal.getsignal(signal.SIGHUP) == before
    finally:
        signal.signal(signal.SIGHUP, restored)
