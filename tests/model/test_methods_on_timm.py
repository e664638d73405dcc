"""Every method on a network of convolutions and on a transformer of timm: it predicts, learns, and caches features."""

import copy

import pytest
import torch

from model.encoders.registry import PYRAMID
from model.encoders.settings import EncoderSettings, Learn
from model.registry import models
from tests.model.small import SETTINGS, WITH_ENCODER, drawn_episode, task_of

CONVOLUTIONS, TRANSFORMER = "timm/test_efficientnet", "timm/test_vit"
SHOTS, BATCH = 2, 2
STRIDE = 8  # of the finest grid that is compared


def method_on(name: str, backbone: str, **encoder: object):
    """Return a registered model on an encoder of timm with random weights, and the image side that fits both."""
    model_class = models()[name]
    settings = model_class.Settings(**copy.deepcopy(SETTINGS.get(name, {})))
    settings.encoder = EncoderSettings(backbone, **encoder)
    step, rest = model_class.rule(settings)
    step = max(step, STRIDE)
    side = 8 * step + rest if step < 32 else 4 * step + rest
    torch.manual_seed(0)
    return model_class(settings, task_of(name, SHOTS, side)), side


@pytest.mark.train
@pytest.mark.parametrize("backbone", [CONVOLUTIONS, TRANSFORMER])
@pytest.mark.parametrize("name", WITH_ENCODER)
def test_a_method_predicts_and_learns_on_an_encoder_of_timm(name: str, backbone: str) -> None:
    problem = models()[name].encoder_problem(EncoderSettings(backbone))
    assert (problem is not None) == (models()[name].grids == PYRAMID and backbone == TRANSFORMER)
    if problem is not None:
        assert problem[0] == "backbone" and PYRAMID in problem[1]
        return
    network, side = method_on(name, backbone)
    episode = drawn_episode(name, SHOTS, BATCH, size=side)
    output = network.eval()(episode)
    assert output.logits.shape == (BATCH, 2, side, side) and output.logits.isfinite().all()
    if not network.learns:
        return
    losses = network.train()(episode).losses
    sum(losses.values()).backward()
    groups = network.param_groups()
    assert all(loss.isfinite() for loss in losses.values())
    learning = [p for group in groups for p in group.params if group.factor]
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in learning)
    fixed = {id(p) for part in network.frozen() for p in part.parameters()}
    assert all(p.requires_grad != (id(p) in fixed) for p in network.encoder.parameters())


@pytest.mark.parametrize("name", ["symnet", "dcama"])
def test_parts_of_the_encoder_learn_with_their_own_rate(name: str) -> None:
    network, side = method_on(name, TRANSFORMER, learn=Learn(["4"], 0.25))
    losses = network.train()(drawn_episode(name, SHOTS, BATCH, size=side)).losses
    sum(losses.values()).backward()
    (group,) = [g for g in network.param_groups() if g.name == "encoder"]
    assert group.factor == 0.25
    assert {id(p) for p in group.params} == {id(p) for p in network.encoder.stages()[4].parameters()}
    assert any(p.grad is not None and p.grad.abs().sum() > 0 for p in group.params)
