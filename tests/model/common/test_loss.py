"""Losses ignore pixels labelled 255 and are 0, not NaN, where nothing counts."""

import pytest
import torch

from model.common.loss import batch_mean, cross_entropy
from model.episode import IGNORE


def _batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    logits, label = torch.randn(2, 4, 5, 6), torch.randint(0, 4, (2, 5, 6), dtype=torch.uint8)
    label[0, :3], label[1, :, 4] = IGNORE, IGNORE
    return logits, label


def test_foreground_weight_counts_the_pixels_that_are_not_background() -> None:
    logits, label = _batch()
    known = label != IGNORE
    per_pixel = -logits.log_softmax(1).gather(1, (label * known).long().unsqueeze(1))[:, 0]
    weight = torch.where(label == 0, 1.0, 3.0) * known
    expected = (per_pixel * weight).sum() / weight.sum()
    assert cross_entropy(logits, label, foreground_weight=3).item() == pytest.approx(expected.item(), rel=1e-5)
    assert cross_entropy(logits, label, foreground_weight=1).item() == cross_entropy(logits, label).item()


def test_batch_mean_divides_by_the_count_and_is_zero_for_none() -> None:
    total = torch.tensor(6.0, requires_grad=True)
    mean = batch_mean(total, torch.tensor(4))
    assert mean.item() == 1.5
    (gradient,) = torch.autograd.grad(mean, total)
    assert gradient.item() == 0.25
    none = batch_mean(total * 0, torch.tensor(0))
    assert none.item() == 0
    assert torch.autograd.grad(none, total)[0].isfinite()


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
