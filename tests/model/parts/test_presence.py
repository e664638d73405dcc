"""The presence features of a query that shows a support's object: its definition, position by position."""

import pytest
import torch
from torch import Tensor

from model.parts.presence import TOP, presence_features, support_summary


def test_presence_features_equal_their_definition_position_by_position() -> None:
    random = torch.Generator().manual_seed(0)
    query, *supports = (torch.randn(2, 7, 12, 15, generator=random) + 0.5 for _ in range(3))
    masks = [(torch.rand(2, 1, 12, 15, generator=random) > 0.6).float() for _ in supports]
    found = presence_features(query, torch.stack([support_summary(s, m) for s, m in zip(supports, masks)], dim=1))
    assert found.shape == (2, 1, 6)
    for item in range(2):
        each = []
        for support, mask in zip(supports, masks):
            x, s = ([v / v.norm() for v in m[item].double().flatten(1).T] for m in (query, support))
            p = torch.stack([v for v, inside in zip(s, mask[item].flatten()) if inside]).mean(0)
            each.append(_slowly(x, p) + _slowly(s, p))
        assert found[item, 0].tolist() == pytest.approx(torch.tensor(each).mean(0).tolist(), abs=1e-5)


def _slowly(x: list[Tensor], p: Tensor) -> list[float]:
    """Return the likeness of a photo's unit features to an object."""
    mean, take = torch.stack(x).mean(0), round(TOP * len(x))
    centred = sorted(float(torch.cosine_similarity(v - mean, p - mean, 0)) for v in x)
    others = sum(float(torch.cosine_similarity(v, p, 0)) for v in x) / len(x)
    return [sum(centred[-take:]) / take, others, float(torch.cosine_similarity(p, mean, 0))]
