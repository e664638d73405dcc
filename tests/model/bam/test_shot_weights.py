"""Shot weights from low-level likeness: sums, permutations, Gram values, and the gradient's three ways to them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.bam.shot_weights import ShotWeights, gram, scene_distance
from model.symnet.symnet import SymNet
from tests.model.small import drawn_episode, small_model

EPS = 1e-7
WIDTH = 256  # channels of features and prototypes in the decoder's input [X_q, r, H, P]


def _slow_gram(x: np.ndarray) -> np.ndarray:
    rows = x.reshape(len(x), -1)
    out = np.zeros((len(rows), len(rows)))
    for i, a in enumerate(rows):
        for j, b in enumerate(rows):
            out[i, j] = a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + EPS)
    return out


def test_gram_equals_numpy() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 4, 3)
    x[1, 2] = 0  # a channel that is off
    for given, one in zip(gram(x).numpy(), x.double().numpy()):
        np.testing.assert_allclose(given, _slow_gram(one), atol=1e-5)


def test_scene_distance_equals_numpy() -> None:
    torch.manual_seed(1)
    query, support = torch.rand(2, 5, 4, 4), torch.rand(2, 3, 5, 4, 4)
    given = scene_distance(query, support)
    assert given.shape == (2, 3)
    for b in range(2):
        for k in range(3):
            own, other = (_slow_gram(x.double().numpy()) for x in (query[b], support[b, k]))
            assert given[b, k].item() == pytest.approx(np.sqrt(((own - other) ** 2).sum()) / 5, rel=1e-4)


def test_the_same_scene_is_at_distance_zero() -> None:
    x = torch.rand(2, 5, 4, 4)
    assert scene_distance(x, x.unsqueeze(1)).abs().max() < 1e-6


@pytest.mark.parametrize("shots", [2, 3, 5])
def test_weights_sum_to_one(shots: int) -> None:
    torch.manual_seed(shots)
    weight = ShotWeights(shots)(torch.rand(4, shots))
    assert weight.shape == (4, shots)
    assert (weight > 0).all()
    torch.testing.assert_close(weight.sum(1), torch.ones(4))


def test_weights_by_rank_may_be_left_to_the_shots_by_position() -> None:
    torch.manual_seed(3)
    in_order, by_rank = ShotWeights(4), ShotWeights(4, in_shot_order=False)
    by_rank.load_state_dict(in_order.state_dict())
    ascending = torch.rand(1, 4).sort(dim=1).values
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(by_rank(ascending), in_order(ascending))
    torch.testing.assert_close(in_order(ascending[:, order]), in_order(ascending)[:, order])
    torch.testing.assert_close(by_rank(ascending[:, order]), by_rank(ascending))


def test_weights_equal_two_layers_over_the_sorted_distances() -> None:
    torch.manual_seed(2)
    layer = ShotWeights(3)
    first, second = (getattr(layer.mix, i) for i in ("0", "2"))
    torch.nn.init.uniform_(first.weight)  # positive, so that no hidden unit is off
    for distance, given in zip(*(x := torch.rand(4, 3), layer(x))):
        order = np.argsort(distance.numpy())
        with torch.no_grad():
            hidden = (first.weight[:, :, 0, 0] @ distance[order] + first.bias).clamp(min=0)
            score = second.weight[:, :, 0, 0] @ hidden + second.bias
        expected = np.zeros(3)
        expected[order] = np.exp(score.numpy()) / np.exp(score.numpy()).sum()
        np.testing.assert_allclose(given.detach().numpy(), expected, rtol=1e-5)


def test_permuted_shots_have_permuted_weights() -> None:
    torch.manual_seed(3)
    layer, distance, order = ShotWeights(5), torch.rand(4, 5), torch.tensor([3, 0, 4, 1, 2])
    weight = layer(distance)
    assert weight.std(1).min() > 0
    torch.testing.assert_close(layer(distance[:, order]), weight[:, order])


def test_a_single_shot_weighs_exactly_one_and_has_no_parameters() -> None:
    layer = ShotWeights(1)
    assert (layer(torch.rand(4, 1)) == 1).all()
    assert not list(layer.parameters())


def _lively(shots: int) -> SymNet:
    """Return a model in training mode whose shot convolutions have no unit that is off."""
    network = small_model("symnet", shots)
    with torch.no_grad():
        for layer in (network.shot_weights.mix[0], network.shot_weights.mix[2]):
            torch.nn.init.uniform_(layer.weight, 0.1, 1.0)
            torch.nn.init.uniform_(layer.bias, 0.1, 1.0)
    return network.train()


def _reached(network: SymNet, *losses: str) -> dict[str, list[bool]]:
    """Return, by loss, which tensors of the shot convolutions get a gradient that is not zero."""
    torch.manual_seed(0)  # of the dropouts
    output = network(drawn_episode("symnet", network.task.shots, batch=2, seed=5))
    out = {}
    for name in losses:
        gradients = torch.autograd.grad(
            output.losses[name], list(network.shot_weights.mix.parameters()), retain_graph=True, allow_unused=True
        )
        assert all(g is None or g.isfinite().all() for g in gradients)
        out[name] = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
    return out


@pytest.mark.parametrize("shots", [2, 3])
def test_a_training_step_reaches_the_shot_convolutions(shots: int) -> None:
    reached = _reached(_lively(shots), "main", "meta", "inner", "triplet")
    assert all(all(tensors) for tensors in reached.values()), reached


@pytest.mark.parametrize("way", ["prior", "support prototype", "scene difference", "none"])
def test_gradient_flows_through_prior_support_prototype_and_scene_difference(way: str) -> None:
    """Close every way but one: the decoder's columns for r and P, the alignment that reads P, and the meta head."""
    network = _lively(shots=2)
    with torch.no_grad():
        for enter in network.decoder.enter:
            if way != "prior":
                enter[0].weight[:, -1] = 0
            if way != "support prototype":
                enter[0].weight[:, WIDTH : 2 * WIDTH] = 0
        network.ensemble.scene.weight[:, 1] = 0
        network.align.project.weight.zero_()  # then r_q does not depend on P, nor r_s on anything but w_k and p_k
        if way == "scene difference":
            network.decoder.head.classify.weight.zero_()
            network.ensemble.scene.weight.copy_(torch.tensor([1.0, 0.5]).view(1, 2, 1, 1))
            network.ensemble.background.weight.copy_(torch.tensor([0.5, 0.3]).view(1, 2, 1, 1))
    reached = _reached(network, "main")["main"]
    assert not any(reached) if way == "none" else all(reached)
