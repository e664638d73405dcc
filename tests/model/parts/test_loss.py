"""Losses of operators with a fixed order are those of the fast ones; golden files hold their numbers."""

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from model.episode import IGNORE
from model.parts.loss import cross_entropy, focal, foreground_dice


@pytest.mark.parametrize("rule", [partial(cross_entropy, foreground_weight=2), focal, foreground_dice])
def test_operators_of_a_fixed_order_give_the_same_loss_and_gradients_and_255_gives_none(
    rule: Callable[[Tensor, Tensor], Tensor],
) -> None:
    logits, label = torch.randn(2, 2, 5, 4, requires_grad=True), torch.randint(0, 2, (2, 5, 4))
    label[0, 0] = IGNORE
    found = []
    for fixed in (False, True):
        torch.use_deterministic_algorithms(fixed)
        loss = rule(logits, label)
        found.append((loss.detach(), *torch.autograd.grad(loss, logits)))
    torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(*found)
    assert torch.equal(found[0][1].any(1), label != IGNORE)
