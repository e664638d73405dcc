"""Norms of networks that several GPUs train: those that learn are converted, and give the same in one process."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.registry import build
from tests.helpers.narrow import NARROW
from util.runtime.network import synchronise_norms


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize(
    "backbone", (NARROW, *(f"timm/test_{name}" for name in ("efficientnet", "resnet", "convnext", "vit")))
)
def test_an_encoder_is_the_same_whether_its_norms_learn_or_not(backbone: str, learns: bool) -> None:
    torch.manual_seed(0)
    network, x = build(backbone).requires_grad_(False), torch.randn(2, 3, 65, 65)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2)
            if not learns:  # frozen parts stay in evaluation
                norm.eval().train = lambda mode=True: None
    synchronised = copy.deepcopy(network)
    synchronise_norms(synchronised)
    norms = [module for module in synchronised.modules() if isinstance(module, _BatchNorm)]
    assert all(isinstance(norm, nn.SyncBatchNorm) == learns for norm in norms)
    for mode in (False, True, False):
        given = synchronised.train(mode)(x).stage
        for stage, want in network.train(mode)(x).stage.items():
            torch.testing.assert_close(given[stage], want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
