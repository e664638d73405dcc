"""The cross-entropy of operators with a fixed order is that of the fast ones; golden files hold its numbers."""

import torch

from model.episode import IGNORE
from model.parts.loss import cross_entropy


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
