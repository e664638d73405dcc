"""Losses ignore pixels labelled 255, weigh the foreground, and do not depend on the order of sums."""

import pytest
import torch

from model.common.loss import cross_entropy
from model.episode import IGNORE


def test_foreground_weight_counts_the_pixels_that_are_not_background() -> None:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6), dtype=torch.uint8)
    label[0, :3], label[1, :, 4] = IGNORE, IGNORE
    known = label != IGNORE
    per_pixel = -logits.log_softmax(1).gather(1, (label * known).long().unsqueeze(1))[:, 0]
    weight = torch.where(label == 0, 1.0, 3.0) * known
    expected = (per_pixel * weight).sum() / weight.sum()
    assert cross_entropy(logits, label, foreground_weight=3).item() == pytest.approx(expected.item(), rel=1e-5)
    assert cross_entropy(logits, label, foreground_weight=1).item() == cross_entropy(logits, label).item()


def test_operators_of_a_fixed_order_give_the_same_loss_and_gradients() -> None:
    logits, label = torch.randn(2, 3, 5, 4, requires_grad=True), torch.randint(0, 3, (2, 5, 4))
    label[0, 0] = IGNORE
    found = []
    for fixed in (False, True):
        torch.use_deterministic_algorithms(fixed)
        loss = cross_entropy(logits, label, foreground_weight=2)
        found.append((loss.detach(), *torch.autograd.grad(loss, logits)))
    torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(*found)
