"""Frozen norms folded into convolutions: the maps and gradients of timm's own blocks, up to rounding."""

import copy

import pytest
import timm
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.learning import frozen_beside
from model.encoders.settings import EncoderSettings, build_encoder
from model.encoders.timm_blocks import FoldedConv, fold_frozen_norms
from tests.model.varied import vary_norms

NAME, HIGH = "test_efficientnet", 4


def networks() -> tuple[nn.Module, nn.Module]:
    """Return timm's network with dilated depthwise convolutions, and a folded copy of it, in float64."""
    torch.manual_seed(0)
    plain = timm.create_model(NAME, num_classes=0, output_stride=16).double().eval()
    vary_norms(plain)
    folded = copy.deepcopy(plain)
    fold_frozen_norms(folded)
    return plain, copy.deepcopy(folded)  # a copy has its own norms


@pytest.mark.parametrize("side", [64, 65])
def test_folding_keeps_outputs_and_tensor_names(side: int) -> None:
    plain, folded = networks()
    image = torch.randn(2, 3, side, side, dtype=torch.float64)
    torch.testing.assert_close(folded.forward_features(image), plain.forward_features(image))
    assert list(folded.state_dict()) == list(plain.state_dict())
    changed = next(m for m in folded.modules() if isinstance(m, _BatchNorm))
    with torch.no_grad():
        changed.running_var *= 4
    assert not torch.allclose(folded.forward_features(image), plain.forward_features(image))


@pytest.mark.parametrize("depthwise", [True, False])
def test_gradients_are_those_of_the_separate_layers(depthwise: bool) -> None:
    plain, folded = networks()
    image = torch.randn(2, 3, 65, 65, dtype=torch.float64)
    for net in (plain, folded):
        for module in net.modules():
            fixed = isinstance(module, _BatchNorm) or (getattr(module, "groups", 1) > 1 and not depthwise)
            for p in module.parameters(recurse=False):
                p.requires_grad_(not fixed)
        net.forward_features(image).square().mean().backward()
    given, wanted = ({name: p.grad for name, p in net.named_parameters()} for net in (folded, plain))
    assert sum(gradient is not None for gradient in wanted.values()) > 10
    torch.testing.assert_close(given, wanted)


def test_an_encoder_of_timm_is_folded_and_its_depthwise_kernels_may_stay() -> None:
    encoder = build_encoder(EncoderSettings(backbone=f"timm/{NAME}"))
    convolutions = [m for m in encoder.modules() if isinstance(m, FoldedConv)]
    assert len(convolutions) > 5
    for module in frozen_beside(encoder, [str(HIGH)], depthwise=False):
        module.requires_grad_(False)
    learning = [m for m in convolutions if m.weight.requires_grad]
    assert learning and all(m.groups == 1 for m in learning)
