"""The benchmark's plain references give the same numbers as the models."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmark.plain_encoder import PlainEncoder
from benchmark.synthetic import build, episode
from benchmark.ways import NAIVE, TRAINED
from model.common.ops import normalise
from tests.model.small import drawn_episode, small_model
from tests.model.varied import varied_encoder
from util.engine.evaluation import scored_outputs

pytestmark = pytest.mark.benchmark

CLOSE = {"atol": 1e-4, "rtol": 1e-4}


@pytest.mark.parametrize("shots", [1, 2])
@pytest.mark.parametrize("name", NAIVE)
def test_a_reference_gives_the_same(name: str, shots: int) -> None:
    network = small_model(name, shots)
    drawn = drawn_episode(name, shots, 1)
    with torch.no_grad():
        ours, plain = network(drawn), NAIVE[name](network)(drawn)
    torch.testing.assert_close(plain.logits, ours.logits, **CLOSE)
    assert ours.logits.std() > CLOSE["atol"]
    outputs = scored_outputs(ours)
    for key, logits in scored_outputs(plain).items():
        torch.testing.assert_close(logits, outputs[key], **CLOSE)


@pytest.mark.train
@pytest.mark.parametrize(("name", "shots"), [("symnet", 1), *((name, 2) for name in TRAINED)])
def test_a_reference_learns_the_same(name: str, shots: int) -> None:
    network = small_model(name, shots)
    for module in network.modules():
        if isinstance(module, (nn.Dropout, nn.Dropout2d)):
            module.p = 0.0
    network.train()
    drawn, found = drawn_episode(name, shots, 1), []
    for way in (network, NAIVE[name](network)):
        losses = way(drawn).losses
        sum(losses.values()).backward()
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        found.append((losses, gradients))
        network.zero_grad(set_to_none=True)
    (losses, gradients), (plain_losses, plain_gradients) = found
    assert losses.keys() == plain_losses.keys() and gradients.keys() == plain_gradients.keys()
    for key, loss in losses.items():
        torch.testing.assert_close(plain_losses[key], loss, **CLOSE)
    for key, gradient in gradients.items():
        torch.testing.assert_close(plain_gradients[key], gradient, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("name", "backbone"), [("symnet", "resnet50"), ("symnet", "vgg16"), ("ssp", "resnet18"), ("dcama", "resnet18")]
)
def test_the_plain_encoder_gives_the_same_maps(name: str, backbone: str) -> None:
    size = 64 if name == "dcama" else 33
    encoder = (varied_encoder(backbone) if name == "symnet" else build(name, backbone, size, 1).encoder).double()
    image = normalise(episode(size, 1).query).double()
    with torch.no_grad():
        ours, plain = encoder(image, intermediate=True), PlainEncoder(encoder)(image, intermediate=True)
    assert ours.stage.keys() == plain.stage.keys()
    for stage, x in ours.stage.items():
        torch.testing.assert_close(plain.stage[stage], x, **CLOSE)
        assert len(ours.intermediate[stage]) == len(plain.intermediate[stage])
        for a, b in zip(ours.intermediate[stage], plain.intermediate[stage]):
            torch.testing.assert_close(b, a, **CLOSE)
