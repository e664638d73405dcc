"""Networks that several GPUs train: the same predictions as before, and the same step where one process does it."""

import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from model.encoders.registry import build
from model.episode import LabelledImages
from tests.model.small import drawn_episode, small_model
from tests.narrow import NARROW
from util.run.network import synchronise_norms

ENCODERS = (NARROW, "timm/test_efficientnet", "timm/test_resnet", "timm/test_convnext", "timm/test_vit")


def changed(network: nn.Module, batch: object) -> list[nn.Module]:
    """Assert that synchronised norms change neither a prediction nor a step, return those that were converted."""
    other = copy.deepcopy(network)
    synchronise_norms(other)
    for one, two in zip(network.modules(), other.modules()):
        if isinstance(two, nn.SyncBatchNorm) and not isinstance(one, nn.SyncBatchNorm):
            one.train()
            assert one.training, "a norm that does not learn was converted"
    found = []
    for each in (network, other):
        torch.manual_seed(0)
        with torch.no_grad():
            logits = each.eval()(batch).logits
        torch.manual_seed(0)
        losses = each.train()(batch).losses
        sum(losses.values()).backward()
        grads = [p.grad for p in each.parameters() if p.grad is not None]
        found.append((logits, torch.stack([x.detach() for x in losses.values()]), grads))
        with torch.no_grad():  # statistics of the step, then evaluation again
            found[-1] += (each.eval()(batch).logits,)
    (a, b, c, d), (e, f, g, h) = found
    assert c
    for want, given in zip((a, b, d, *c), (e, f, h, *g), strict=True):
        torch.testing.assert_close(given, want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
    return [m for m in other.modules() if isinstance(m, nn.SyncBatchNorm)]


@pytest.mark.parametrize("name", ["bam", "hdmnet", "ssp"])  # norms of a base learner, fixed ones, those of an encoder
def test_a_method_is_the_same(name: str) -> None:
    network = small_model(name, 1)
    changed(network, drawn_episode(name, 1, 2))
    if network.has_base_stage:
        stage, episode = network.base_stage(), drawn_episode(name, 1, 2)
        assert changed(stage, LabelledImages(episode.query, episode.query_base_label))


@pytest.mark.parametrize("learns", [True, False])
@pytest.mark.parametrize("backbone", ENCODERS)
def test_an_encoder_is_the_same_whether_its_norms_learn_or_not(backbone: str, learns: bool) -> None:
    torch.manual_seed(0)
    network, x = build(backbone).requires_grad_(False), torch.randn(2, 3, 65, 65)
    for norm in network.modules():
        if isinstance(norm, _BatchNorm):
            norm.running_mean.uniform_(-0.1, 0.1)
            norm.running_var.uniform_(0.5, 2)
    other = copy.deepcopy(network)
    for norm in () if learns else (*network.modules(), *other.modules()):
        if isinstance(norm, _BatchNorm):  # frozen parts stay in evaluation
            norm.eval().train = lambda mode=True, norm=norm: norm
    synchronise_norms(other)
    norms = [m for m in other.modules() if isinstance(m, _BatchNorm)]
    assert all(isinstance(m, nn.SyncBatchNorm) == learns for m in norms)
    for mode in (False, True, False):
        one, two = (net.train(mode)(x).stage for net in (network, other))
        for stage, want in one.items():
            torch.testing.assert_close(two[stage], want, rtol=1e-4, atol=1e-5 * float(want.abs().max()))
