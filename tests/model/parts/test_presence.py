"""The presence features of a query that shows a support's object: its definition, position by position."""

from statistics import fmean

import torch
from torch import Tensor

from model.parts.presence import TOP, presence_features, support_summary


def test_presence_features_equal_their_definition_position_by_position() -> None:
    torch.manual_seed(0)
    query = torch.randn(2, 7, 180) + 0.5
    supports = torch.randn(2, 2, 7, 180) + 0.5  # shots, batch, channels, positions
    masks = torch.rand(2, 2, 1, 180) > 0.6
    summaries = map(support_summary, supports.unflatten(3, (12, 15)), masks.float().unflatten(3, (12, 15)))
    found = presence_features(query.unflatten(2, (12, 15)), torch.stack([*summaries], dim=1))
    assert found.shape == (2, 1, 6)
    for item in range(2):
        of_shots = []
        for support, mask in zip(supports[:, item], masks[:, item, 0]):
            x = [position / position.norm() for position in query[item].T]
            s = [position / position.norm() for position in support.T]
            p = torch.stack([position for position, inside in zip(s, mask) if inside]).mean(0)
            of_shots.append(_slowly(x, p) + _slowly(s, p))
        torch.testing.assert_close(found[item, 0], torch.tensor(of_shots).mean(0), atol=1e-5, rtol=0)


def _slowly(x: list[Tensor], p: Tensor) -> list[float]:
    """Return the likeness of a photo's unit features to an object."""
    mean = torch.stack(x).mean(0)
    take = round(TOP * len(x))
    centred = [_cosine(position - mean, p - mean) for position in x]
    plain = [_cosine(position, p) for position in x]
    return [fmean(sorted(centred)[-take:]), fmean(plain), _cosine(p, mean)]


def _cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.cosine_similarity(a, b, 0))
