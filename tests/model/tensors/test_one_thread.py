"""1x1 convolutions by oneDNN are those of torch, forwards and backwards."""

import pytest
import torch
from torch.nn import functional as F

from model.tensors.one_thread import pointwise


@pytest.mark.parametrize(("stride", "learns"), [(1, (0, 1, 2)), (2, (0, 1, 2)), (1, (0,)), (1, (1,))])
def test_gradients_are_those_of_torch(stride: int, learns: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 8, 5, 7).contiguous(memory_format=torch.channels_last)
    inputs = [image, torch.randn(6, 8, 1, 1), torch.randn(6)]
    for i in learns:
        inputs[i].requires_grad_()
    results = [pointwise(*inputs, (stride, stride), 1), F.conv2d(*inputs, stride)]
    given = torch.randn_like(results[0])
    found, wanted = (torch.autograd.grad(out, [inputs[i] for i in learns], given) for out in results)
    torch.testing.assert_close([results[0], *found], [results[1], *wanted], rtol=1e-5, atol=1e-5)
