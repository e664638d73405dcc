"""The base learner: the fast forms of its map h5 equal the published one."""

import pytest
import torch

from model.parts.base_learner import BaseLearner
from model.tensors.mask import fixed_shapes, positions_of
from model.tensors.pyramid import convolve_plainly
from tests.model.seeded import seed_weights

CHANNELS, CLASSES = 16, 3


@torch.no_grad()
@pytest.mark.parametrize("size", [(7, 7), (9, 12), (1, 5)])
def test_h5_equals_the_convolution_over_upsampled_levels_everywhere_and_at_chosen_positions(size: tuple) -> None:
    learner = seed_weights(BaseLearner(CHANNELS, CLASSES)).eval()
    torch.manual_seed(0)
    f4 = torch.randn(2, CHANNELS, *size)
    convolution, norm = learner.classify[:2]
    plain = norm(convolve_plainly(f4, [level(f4) for level in learner.pyramid], convolution.weight))
    torch.testing.assert_close(learner.hidden(f4), plain)
    [positions] = positions_of(torch.rand(2, plain[0, 0].numel()) > 0.5)
    expected = plain.permute(0, 2, 3, 1).flatten(0, 2)[positions.flat]
    torch.testing.assert_close(learner.hidden_at(f4, positions), expected)
    with fixed_shapes():
        given = learner.hidden_at(f4, positions).unflatten(0, (2, -1))
    torch.testing.assert_close(given[positions.inside], expected)
