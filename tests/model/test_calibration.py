"""Support calibration: shares are those of the base learner inside the objects, and only claims found there lose."""

from __future__ import annotations

import pytest
import torch
from small import BASE_CLASSES, drawn_episode, small_model, task_of
from torch import Tensor

from model.base_learner import BaseLearner
from model.calibration import TOLERATED, SupportCalibration, claimed_shares, claims, trusted_map
from model.ensemble import Ensemble, base_map
from model.symnet import SymNet

BATCH, SHOTS, CHANNELS, SIDE = 2, 2, 16, 5


@pytest.fixture
def supports() -> tuple[BaseLearner, Tensor, Tensor, Tensor]:
    """Return a base learner, the last stage of B * K supports, their masks and the shots' weights."""
    torch.manual_seed(0)
    masks = torch.zeros(BATCH, SHOTS, 1, SIDE, SIDE)
    masks[0, 0, :, :2, :3] = masks[0, 1, :, 3:, 3:] = masks[1, 0, :, 2, 2] = 1  # the last support shows no object
    weight = torch.tensor([[0.3, 0.7], [0.6, 0.4]])
    return BaseLearner(CHANNELS, BASE_CLASSES).eval(), torch.randn(BATCH * SHOTS, CHANNELS, SIDE, SIDE), masks, weight


@pytest.mark.parametrize("unknown", [None, torch.tensor([2, 0])])
def test_shares_are_the_weighted_means_over_the_objects(supports: tuple, unknown: Tensor | None) -> None:
    learner, f4, masks, weight = supports
    with torch.no_grad():
        logits = learner(f4).unflatten(0, (BATCH, SHOTS))
    shares = claimed_shares(learner, f4, masks, weight, unknown)
    for b in range(BATCH):
        expected = torch.zeros(BASE_CLASSES)
        for k in range(SHOTS):
            inside = masks[b, k, 0] == 1
            each = logits[b, k][:, inside].T.clone()  # (m, N + 1)
            if unknown is not None and unknown[b] > 0:
                each[:, unknown[b]] = -1e9
            if len(each):
                expected += weight[b, k] * each.softmax(1)[:, 1:].mean(0)
        torch.testing.assert_close(shares[b], expected, atol=1e-5, rtol=0)


def test_an_unknown_class_leaves_its_claim_to_the_others() -> None:
    logits = torch.randn(BATCH, BASE_CLASSES + 1, 3, 3)
    given = claims(logits, torch.tensor([2, 0]))
    assert (given[0, 1] == 0).all()
    torch.testing.assert_close(given[0, [0, 2]], logits[0, [0, 1, 3]].softmax(0)[1:])
    assert torch.equal(given[1], claims(logits)[1])


@pytest.mark.parametrize("kind", ["threshold", "share", "learnt"])
def test_trust_falls_with_the_share(kind: str) -> None:
    trust = SupportCalibration(kind)(torch.tensor([[0.0, TOLERATED, 0.5, 1.0]]))[0].detach()
    assert trust[0] == 1 and (trust.diff() <= 0).all() and trust[3] < 2 * TOLERATED
    assert trust[1] == pytest.approx(1 if kind == "threshold" else 0.5)


def test_full_trust_is_the_published_ensemble_and_none_leaves_the_base_learner_out() -> None:
    torch.manual_seed(0)
    meta, base, scene = torch.randn(2, 2, 4, 5), torch.randn(2, BASE_CLASSES + 1, 4, 5), torch.rand(2)
    ensemble, ones = Ensemble(), torch.ones(2, BASE_CLASSES)
    with torch.no_grad():
        ensemble.background.weight[:, 1] = 0.5
    torch.testing.assert_close(trusted_map(base, ones, None), base_map(base, None))
    torch.testing.assert_close(ensemble(meta, base, scene, None, ones), ensemble(meta, base, scene, None))
    assert torch.equal(ensemble(meta, base, scene, None, 0 * ones), Ensemble()(meta, base, scene, None))


def test_a_claim_found_in_the_support_is_not_held_against_the_query() -> None:
    torch.manual_seed(0)
    network = small_model("symnet", shots=1)
    network.calibrate = SupportCalibration("threshold")
    with torch.no_grad():
        network.ensemble.background.weight[:, 1] = 5.0  # a base learner that is believed
        network.base_learner.classify[4].weight.zero_()
        network.base_learner.classify[4].bias.copy_(torch.tensor([0.0, 9.0, 0.0, 0.0]))  # and claims class 1 anywhere
        episode = drawn_episode("symnet", shots=1, batch=2, novel=True)
        calibrated = network(episode).logits.argmax(1).float().mean()
        network.calibrate = None
        believed = network(episode).logits.argmax(1).float().mean()
    assert believed == 0 and calibrated > 0


def test_the_learnt_tolerance_learns() -> None:
    settings = SymNet.Settings(calibration="learnt")
    settings.encoder.backbone, settings.encoder.stem = "resnet18", "plain"
    torch.manual_seed(0)
    network = SymNet(settings, task_of("symnet", shots=1)).train()
    with torch.no_grad():
        network.ensemble.background.weight[:, 1] = 0.5  # at its initial 0 the base map is not read
    output = network(drawn_episode("symnet", shots=1, batch=2))
    sum(output.losses.values()).backward()
    assert network.calibrate.log_tolerated.grad != 0
    assert network.calibrate.log_tolerated in {p for group in network.param_groups() for p in group.params}
