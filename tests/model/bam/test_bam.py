"""BAM's masked support and prior equal slow ones; gradients of K shots reach the shots' weights through the prior."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from model.bam.bam import BAM
from model.bam.prior import shot_prior
from model.common.ops import foreground_mask, resize
from tests.model.small import drawn_episode, rectangle_mask, small_model
from tests.model.varied import varied_encoder

SIDE = 129  # a grid on which the last stage does not reach everywhere
CLOSE = {"atol": 1e-4, "rtol": 1e-4}


def _masks() -> Tensor:
    places = [(0, 15, 100, 125), (60, 80, 30, 45)]
    return torch.stack([rectangle_mask(SIDE, SIDE, slice(a, b), slice(c, d)) for a, b, c, d in places])


@pytest.mark.parametrize("backbone", ["resnet10_narrow", "vgg16"])
@torch.no_grad()
def test_the_last_stage_sees_the_object_alone_and_is_right_on_it(backbone: str) -> None:
    torch.manual_seed(0)
    encoder, mask, image = varied_encoder(backbone), _masks(), torch.randn(2, 3, SIDE, SIDE)
    given, plain = encoder.forward_masked(image, mask, 3), encoder(image)
    for stage in (2, 3):
        torch.testing.assert_close(given.stage[stage], plain.stage[stage], **CLOSE)
    f3 = plain.stage[3]
    inside = resize(mask, f3.shape[-2:]) > 0
    whole = encoder.stage(4)(f3 * resize(mask, f3.shape[-2:]))
    torch.testing.assert_close(given.stage[4] * inside, whole * inside, **CLOSE)
    torch.testing.assert_close(encoder.run_stage(4, f3), plain.stage[4], **CLOSE)
    if backbone == "resnet10_narrow":
        assert (given.stage[4][0] == 0).all(0).any()  # beyond the window


def _slow_prior(query: Tensor, support: Tensor, mask: Tensor) -> Tensor:
    q, s = query.flatten(1), (support * resize(mask[None], support.shape[-2:])[0]).flatten(1)
    best = (q.T @ s / (q.norm(dim=0).unsqueeze(1) * s.norm(dim=0) + 1e-7)).amax(1)
    return ((best - best.min()) / (best.max() - best.min() + 1e-7)).view(query.shape[1:])


def test_prior_equals_the_whole_matrix_and_is_0_without_an_object() -> None:
    torch.manual_seed(0)
    query, support = torch.rand(3, 8, 6, 6), torch.rand(3, 8, 6, 6)
    places = [(0, 20, 3, 30), (0, 41, 0, 41), (0, 0, 0, 0)]  # some, all, nothing
    mask = torch.stack([rectangle_mask(41, 41, slice(a, b), slice(c, d)) for a, b, c, d in places])
    given = shot_prior(query, support, mask)
    torch.testing.assert_close(given, torch.stack([_slow_prior(*one) for one in zip(query, support, mask)]), **CLOSE)
    assert (given[2] == 0).all() and given[:2].amin() >= 0 and given[:2].amax() <= 1


def test_gradients_reach_the_shots_weights_through_the_prior() -> None:
    network = small_model("bam", 2).train()
    assert isinstance(network, BAM)
    seen: list[Tensor] = []
    network.fuse.register_forward_hook(lambda module, inputs, output: seen.append(inputs[2]))
    network(drawn_episode("bam", 2, 2))
    gradients = torch.autograd.grad(seen[0].square().sum(), list(network.shot_weights.parameters()))
    assert any((gradient != 0).any() for gradient in gradients)


def test_pixels_outside_a_supports_object_count_in_front_of_the_last_stage_only() -> None:
    """The scene distance and f3 see the whole support; f4 does not."""
    network, episode = small_model("bam", 1), drawn_episode("bam", 1, 1)
    changed = episode.support.clone()
    outside = foreground_mask(episode.support_label) == 0
    changed[outside.expand_as(changed)] = 255
    first, second = (network.cache_support(x, episode.support_label) for x in (episode.support, changed))
    assert not torch.equal(first.stage[3], second.stage[3])
    empty = network.cache_support(episode.support, torch.zeros_like(episode.support_label))
    assert torch.equal(empty.stage[3], first.stage[3]) and not torch.equal(empty.stage[4], first.stage[4])
