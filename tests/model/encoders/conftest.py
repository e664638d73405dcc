"""Shared by the tests of encoders: torchvision's own networks."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision.models import resnet as tv_resnet
from torchvision.models import vgg as tv_vgg

from tests.model.varied import vary_norms


@pytest.fixture(scope="module")
def torchvision_resnet18() -> nn.Module:
    torch.manual_seed(1)
    return vary_norms(tv_resnet.resnet18(weights=None)).eval()


@pytest.fixture(scope="module")
def torchvision_vgg16() -> nn.Sequential:
    torch.manual_seed(2)
    return vary_norms(tv_vgg.make_layers(tv_vgg.cfgs["D"], batch_norm=True)).eval()
