"""The support prototype is the masked average of its definition."""

from __future__ import annotations

import numpy as np
import torch

from model.common.prototype import support_prototype


def test_support_prototype_is_the_masked_average_with_its_eps() -> None:
    feature = torch.randn(3, 4, 5, 6)
    mask = torch.rand(3, 1, 5, 6) * torch.tensor([1.0, 1e-4, 0.0]).view(3, 1, 1, 1)
    x, m = feature.double().numpy(), mask.double().numpy()
    expected = (x * m).sum((2, 3)) / (m.sum((2, 3)) + 5e-4)
    given = support_prototype(feature, mask)
    np.testing.assert_allclose(given.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert (given[2] == 0).all()
