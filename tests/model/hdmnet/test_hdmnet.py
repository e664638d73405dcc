"""HDMNet beyond the contract tests: trained parameters, similarity, masked supports, and its published oddities."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor

from model.common.greatest_cosine import greatest_cosine
from model.contract import Task
from model.hdmnet.hdmnet import HDMNet, HDMNetSettings
from tests.model.small import drawn_episode, small_model


@pytest.fixture(scope="module")
def two_shots() -> HDMNet:
    return small_model("hdmnet", 2)


@pytest.mark.parametrize(
    ("backbone", "count"), [("resnet50", 4_161_734), ("resnet101", 4_161_734), ("vgg16", 3_768_518)]
)
def test_as_many_values_learn_as_published(backbone: str, count: int) -> None:
    settings = HDMNetSettings()
    settings.encoder.backbone = backbone
    with torch.device("meta"):
        network = HDMNet(settings, Task(base_classes=15, shots=1, size=473, text_width=0))
    groups = {group.name: group for group in network.param_groups()}
    assert sum(p.numel() for group in groups.values() for p in group.params) == count
    assert {name: group.factor for name, group in groups.items()} == {"transformer": 0.1, "others": 1.0}


def test_shot_weights_get_gradients_and_never_move(two_shots: HDMNet) -> None:
    (group,) = (g for g in two_shots.param_groups() if g.name == "shot_weights")
    assert {id(p) for p in group.params} == {id(p) for p in two_shots.shot_weights.parameters()}
    before = [p.detach().clone() for p in group.params]
    optimizer = torch.optim.AdamW(group.params, lr=1e-3 * group.factor, weight_decay=0.01)
    sum(p.square().sum() for p in group.params).backward()
    optimizer.step()
    assert all(p.grad.any() and torch.equal(p, kept) for p, kept in zip(group.params, before))
    two_shots.zero_grad(set_to_none=True)


@torch.no_grad()
def test_what_surrounds_the_object_in_a_support_is_never_seen(two_shots: HDMNet) -> None:
    episode = drawn_episode("hdmnet", 2, 1)
    outside = (episode.support_label != 1).unsqueeze(2)  # pixels to ignore are not the object
    other = dataclasses.replace(episode, support=torch.where(outside, 255 - episode.support, episode.support))
    assert torch.equal(two_shots(other).logits, two_shots(episode).logits)
    inside = dataclasses.replace(episode, support=torch.where(outside, episode.support, 255 - episode.support))
    assert not torch.allclose(two_shots(inside).logits, two_shots(episode).logits)


def test_the_base_heads_dropout_is_at_work_in_training_and_leaves_similarity_alone(two_shots: HDMNet) -> None:
    episode, seen = drawn_episode("hdmnet", 2, 1), []
    handles = [
        two_shots.ensemble.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1])),
        two_shots.merge_query.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][:, -2:])),
    ]
    for mode in (False, True, True):
        two_shots.train(mode)(episode)
    similarity, base = seen[::2], seen[1::2]
    two_shots.eval()
    for handle in handles:
        handle.remove()
    assert torch.equal(similarity[1], similarity[0]) and torch.equal(similarity[2], similarity[0])
    assert not torch.equal(base[1], base[0]) and not torch.equal(base[2], base[1])


# --- similarity ------------------------------------------------------------------------------------------------------


def _slow(query: Tensor, support: Tensor, inside: Tensor) -> Tensor:
    """Return the mean over shots of the largest cosine with all positions, those outside being zeros."""
    maps = []
    for own, mask in zip(support, inside.float()):
        s, q = (own * mask).flatten(1), query.flatten(1)
        cosine = q.T @ s / (q.norm(dim=0).unsqueeze(1) * s.norm(dim=0) + 1e-7)
        maps.append(cosine.amax(1))
    return torch.stack(maps).mean(0).view(query.shape[1:])


def test_similarity_equals_the_whole_matrix_with_full_and_empty_masks() -> None:
    torch.manual_seed(0)
    query, support = torch.randn(2, 6, 3, 3), torch.randn(2, 3, 6, 3, 3)
    query[0] = -support[0, 1].mean((1, 2))[:, None, None] - 3  # all cosines with a full support are negative
    support[0, 1] = support[0, 1].abs()
    inside = torch.rand(2, 3, 3, 3) > 0.5
    inside[0, 0], inside[0, 1] = False, True
    rows = support.movedim(2, -1)[inside]
    given = greatest_cosine(query, rows, inside).mean(1)
    torch.testing.assert_close(given, torch.stack([_slow(*parts) for parts in zip(query, support, inside)]))
    alone = greatest_cosine(query[:1], support[:1, 1:2].movedim(2, -1)[inside[:1, 1:2]], inside[:1, 1:2])
    assert (alone < 0).all()
