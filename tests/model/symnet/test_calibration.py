"""Support calibration: the base learner's shares inside and outside the objects decide how it is used."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.bam.base_learner import BaseLearner
from model.episode import IGNORE
from model.symnet.extensions.calibration import (
    LATTICE,
    RARE,
    Shares,
    claimed_shares,
    shot_shares,
    with_likelihood,
)
from tests.model.small import BASE_CLASSES

BATCH, SHOTS, CHANNELS, SIDE = 2, 2, 16, 5


@pytest.fixture
def supports() -> tuple[BaseLearner, Tensor, Tensor, Tensor]:
    """Return a base learner, the last stage of B * K supports, their labels and the shots' weights."""
    torch.manual_seed(0)
    labels = torch.zeros(BATCH, SHOTS, SIDE, SIDE, dtype=torch.uint8)
    labels[0, 0, :2, :3] = labels[0, 1, 3:, 3:] = labels[1, 0, 1, 3] = 1  # one off the lattice, and one shows no object
    labels[0, 0, 4], labels[1, 1, :, 0] = IGNORE, IGNORE
    weight = torch.tensor([[0.3, 0.7], [0.6, 0.4]])
    return BaseLearner(CHANNELS, BASE_CLASSES).eval(), torch.randn(BATCH * SHOTS, CHANNELS, SIDE, SIDE), labels, weight


def _shares(learner: BaseLearner, f4: Tensor, labels: Tensor, weight: Tensor, unknown: Tensor | None) -> Shares:
    shots = zip(f4.unflatten(0, (BATCH, SHOTS)).unbind(1), labels.unbind(1))
    return claimed_shares([shot_shares(learner, *shot, unknown) for shot in shots], weight)


@pytest.mark.parametrize("unknown", [None, torch.tensor([2, 0])])
def test_shares_are_the_weighted_means_of_objects_and_background(supports: tuple, unknown: Tensor | None) -> None:
    learner, f4, labels, weight = supports
    with torch.no_grad():
        logits = learner(f4).unflatten(0, (BATCH, SHOTS))
    if unknown is not None:
        logits[0, :, 2] = -1e9
    lattice = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    lattice[::LATTICE, ::LATTICE] = True
    shares = _shares(learner, f4, labels, weight, unknown)
    for b in range(BATCH):
        for label, got in ((1, shares.inside[b]), (0, shares.background[b])):
            total, weights = torch.zeros(BASE_CLASSES + 1), 0.0
            for k in range(SHOTS):
                of = labels[b, k] == label
                its = of & lattice if (of & lattice).any() else of
                if its.any():
                    total += weight[b, k] * logits[b, k].softmax(0)[:, its].mean(1)
                    weights += weight[b, k]
            torch.testing.assert_close(got, total / weights, atol=1e-5, rtol=0)


def test_likelihood_is_the_written_formula() -> None:
    torch.manual_seed(0)
    meta, base = torch.randn(1, 2, 3, 4), torch.randn(1, BASE_CLASSES + 1, 3, 4)
    shares = Shares(*torch.rand(2, 1, BASE_CLASSES + 1).softmax(2))
    claimed, of_object = base[0].softmax(0).flatten(1), meta[0].softmax(0)[1].flatten()  # (N + 1, L), (L,)
    a = (shares.inside[0] + (claimed @ of_object) / of_object.sum()) / 2
    d = (shares.background[0] + (claimed @ (1 - of_object)) / (1 - of_object).sum()) / 2
    ratio = ((a + RARE) / (d + RARE)).log() @ claimed
    final = with_likelihood(meta, base, shares, None)
    torch.testing.assert_close(final[:, 0], meta[:, 0])
    torch.testing.assert_close(final[0, 1], meta[0, 1] + ratio.view(3, 4))


def test_a_class_predicted_in_the_object_counts_for_it_and_one_in_the_background_against() -> None:
    meta, base = torch.zeros(1, 2, 1, 3), torch.zeros(1, BASE_CLASSES + 1, 1, 3)
    base[0, 1, 0, 0] = base[0, 2, 0, 1] = base[0, 3, 0, 2] = 9  # three positions, three classes
    inside, background = torch.zeros(2, 1, BASE_CLASSES + 1)
    inside[0, 1] = background[0, 2] = 1
    margin = with_likelihood(meta, base, Shares(inside, background), None).diff(dim=1)[0, 0, 0]
    assert margin[0] > 1 and margin[1] < -1 and abs(margin[2]) < 0.1


def test_the_meta_output_learns_through_the_likelihood() -> None:
    meta = torch.randn(2, 2, 4, 4, requires_grad=True)
    base, shares = torch.randn(2, BASE_CLASSES + 1, 4, 4), torch.rand(2, 2, BASE_CLASSES + 1)
    with_likelihood(meta, base, Shares(*shares), None).sum().backward()
    assert torch.equal(meta.grad, torch.ones_like(meta))
