"""The evidence that a query shows a support's object: its definition, position by position, and every method's."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.common.likeness import TOP, likeness, object_feature
from model.registry import models
from tests.model.small import drawn_episode, small_model

LEARNING = sorted(name for name, model_class in models().items() if model_class.learns)

SEES_NO_BACKGROUND = ("bam", "hdmnet")  # of their supports, so that these differ from the query


def test_it_is_the_definition_position_by_position() -> None:
    random = torch.Generator().manual_seed(0)
    query, support = (torch.randn(2, 7, 12, 15, generator=random) + 0.5 for _ in range(2))
    mask = (torch.rand(2, 1, 12, 15, generator=random) > 0.6).float()
    found = likeness(query, torch.stack([object_feature(support, mask)] * 2, dim=1))
    assert found.shape == (2, 1, 2)
    for item in range(2):
        assert found[item, 0].tolist() == pytest.approx(_slowly(query[item], support[item], mask[item, 0]), abs=1e-5)


def _slowly(query_chw: Tensor, support_chw: Tensor, mask_hw: Tensor) -> list[float]:
    x, s = ([v / v.norm() for v in m.double().flatten(1).T] for m in (query_chw, support_chw))
    p = torch.stack([v for v, inside in zip(s, mask_hw.flatten()) if inside]).mean(0)
    mean = torch.stack(x).mean(0)
    take = round(TOP * len(x))
    out = []
    for shift in (torch.zeros_like(mean), mean):
        cosines = [float((v - shift) @ (p - shift) / (v - shift).norm() / (p - shift).norm()) for v in x]
        out.append(sum(sorted(cosines)[-take:]) / take)
    return out


@pytest.mark.parametrize("name", LEARNING)
@torch.no_grad()
def test_every_method_that_learns_gives_it_and_a_query_is_most_like_itself(name: str) -> None:
    network, episode = small_model(name, 2), drawn_episode(name, 2, batch=2)
    own = replace(episode, support=torch.stack([episode.query] * 2, dim=1))
    found, itself = (network(e).evidence for e in (episode, own))
    assert found is not None and itself is not None and found.shape == (2, 1, 2) and found.abs().max() <= 1 + 1e-5
    assert name in SEES_NO_BACKGROUND or (itself > found).all()
