"""The multi-prototype baseline: its points, its k-means, its scores, and the plain prototype as its case k = 1."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from model.baselines.centres import points_of_class, spherical_kmeans
from model.baselines.multiprototype import ABSENT, class_scores
from model.common.grid_mask import mask_on_grid
from model.common.ops import unit
from model.episode import IGNORE
from tests.model.small import drawn_episode, small_model

CHANNELS, GRID, CANVAS = 6, (4, 5), (16, 20)
K = 3


def _points(count: int, seed: int = 0) -> Tensor:
    return unit(torch.randn(count, CHANNELS, generator=torch.Generator().manual_seed(seed)), dim=1)


def _map(seed: int) -> Tensor:
    return _points(GRID[0] * GRID[1], seed).T.unflatten(1, GRID)


def _slow_kmeans(x: np.ndarray, k: int) -> np.ndarray:
    """Return the centres, point by point, in float64."""
    mean = x.mean(0) / np.linalg.norm(x.mean(0))
    chosen = [int(np.argmax(x @ mean))]
    while len(chosen) < k:
        chosen.append(int(np.argmin([max(point @ x[c] for c in chosen) for point in x])))
    centres, before = x[chosen].copy(), None
    for _ in range(20):
        nearest = [int(np.argmax(centres @ point)) for point in x]
        if nearest == before:
            break
        before = nearest
        for j in range(k):
            own = x[np.array(nearest) == j]
            if len(own):
                centres[j] = own.mean(0) / np.linalg.norm(own.mean(0))
    return centres


@pytest.mark.parametrize(("count", "k"), [(40, 5), (7, 2), (6, 5), (12, 1)])
def test_centres_are_those_of_the_definition(count: int, k: int) -> None:
    points = _points(count, seed=count)
    centres = spherical_kmeans(points, k)
    np.testing.assert_allclose(centres.numpy(), _slow_kmeans(points.double().numpy(), k), atol=1e-5)


def test_fewer_distinct_points_than_centres_repeat_the_first_whatever_the_rounding() -> None:
    distinct = _points(K)
    for noise in (0, 1e-7, -1e-7):
        points = distinct.repeat(3, 1)
        points[1:] += noise * torch.randn(len(points) - 1, CHANNELS, generator=torch.Generator().manual_seed(1))
        centres = spherical_kmeans(points, K + 2)
        nearest = (centres @ distinct.T).argmax(1).tolist()
        assert sorted(nearest[:K]) == [0, 1, 2] and nearest[K:] == [0, 0]
        torch.testing.assert_close(centres, distinct[nearest], atol=1e-5, rtol=0)


def test_points_are_the_cells_of_a_class_shot_by_shot() -> None:
    labels = torch.zeros(2, *CANVAS, dtype=torch.uint8)
    labels[0, :8], labels[1, 8:], labels[:, :, :4] = 1, 2, IGNORE
    supports = list(zip([_map(1), _map(2)], labels))
    masks = {c: [mask_on_grid(label == c, GRID) for label in labels] for c in (0, 1, 2, 3)}
    for c, (first, second) in masks.items():
        want = torch.cat([_map(1).flatten(1).T[first.flatten()], _map(2).flatten(1).T[second.flatten()]])
        assert torch.equal(points_of_class(supports, c), want)
    assert not masks[1][1].any() and not masks[0][0][:, 0].any() and len(points_of_class(supports, 3)) == 0


@pytest.mark.parametrize("rule", ["max", "max_mean"])
def test_scores_are_of_cosines_resized_first_for_any_number_of_classes(rule: str) -> None:
    query, centres = _map(0), [_points(4, 1), _points(2, 2), _points(0), _points(1, 3)]
    scores = class_scores(query, centres, CANVAS, rule)
    assert scores.shape == (4, *CANVAS) and bool((scores[2] == ABSENT).all())
    for c in (0, 1, 3):
        cosines = torch.stack([F.cosine_similarity(query, centre[:, None, None], dim=0) for centre in centres[c]])
        cosines = F.interpolate(cosines[None], CANVAS, mode="bilinear", align_corners=False)[0]
        want = cosines.amax(0) * (cosines.mean(0) if rule == "max_mean" else 1)
        torch.testing.assert_close(scores[c], want, atol=1e-5, rtol=1e-5)


def test_one_centre_is_the_mean_of_unit_features() -> None:
    network, episode = small_model("multiprototype", 2, k=1, rule="max"), drawn_episode("multiprototype", 2, batch=1)
    (query, support) = (network.compared(f) for f in network.encode(episode))
    logits = network(episode).logits[0]
    for c in (0, 1):
        masks = [mask_on_grid(label == c, support.shape[-2:]) for label in episode.support_label[0]]
        mean = torch.cat([x[:, mask] for x, mask in zip(support, masks)], dim=1).mean(1)
        cosine = F.cosine_similarity(query, mean[None, :, None, None])
        want = F.interpolate(cosine[None], episode.query.shape[-2:], mode="bilinear")[0, 0]
        torch.testing.assert_close(logits[c], want, atol=1e-5, rtol=1e-5)


def test_classes_share_the_background_of_all_supports() -> None:
    network, one = small_model("multiprototype", 1), drawn_episode("multiprototype", 1, batch=1)
    other = drawn_episode("multiprototype", 1, batch=1, seed=1)
    other = dataclasses.replace(other, query=one.query)
    logits = network.forward_classes([one, other]).logits
    features, shots = network.encode_compared(one)
    shots += network.encode_compared(other)[1]
    supports = [(f[0], label[0]) for f, label in shots]
    points = [points_of_class(supports, 0), points_of_class(supports[:1], 1), points_of_class(supports[1:], 1)]
    centres = [spherical_kmeans(p, network.settings.k) for p in points]
    torch.testing.assert_close(logits[0], class_scores(features[0], centres, one.query.shape[-2:], "max_mean"))
