"""Layouts of weights, maps and gradients on a GPU, and the resizing whose gradient is made of matrix products."""

import pytest
import torch

from model.tensors.memory_format import memory_format_of, with_gradient_in_own_format
from model.tensors.ops import logits_at, resize
from tests.helpers.pretend import GPU, pretend_cuda


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_a_gradient_enters_the_encoder_in_the_layout_of_its_map(layout: torch.memory_format) -> None:
    entered = []
    x = torch.rand(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    below = x * 1.0
    below.register_hook(entered.append)
    other = torch.channels_last if layout == torch.contiguous_format else torch.contiguous_format
    factor = torch.rand(2, 3, 4, 5).contiguous(memory_format=other)
    (with_gradient_in_own_format(below).contiguous(memory_format=other) * factor).sum().backward()
    assert [memory_format_of(gradient) for gradient in entered] == [layout]
    torch.testing.assert_close(entered[0], factor, rtol=0, atol=0)


@pytest.mark.parametrize(("size", "grid"), [((33, 41), (9, 7)), ((7, 9), (7, 9)), ((5, 4), (1, 2)), ((6, 5), (11, 13))])
def test_a_gpu_resizes_logits_that_learn_by_products(size: tuple[int, int], grid: tuple[int, int]) -> None:
    logits = torch.randn(2, 3, *grid, dtype=torch.float32)
    weight = torch.randn(2, 3, *size)
    gradients = []
    for way in (resize, logits_at):
        with pretend_cuda():
            x = logits.clone().to(GPU).requires_grad_()
            found = way(x, size)
            (found * weight.to(GPU)).sum().backward()
        torch.testing.assert_close(torch.Tensor(found.detach().tolist()), resize(logits, size), rtol=1e-5, atol=1e-5)
        gradients.append(torch.Tensor(x.grad.tolist()))
    torch.testing.assert_close(*gradients, rtol=1e-5, atol=1e-5)
