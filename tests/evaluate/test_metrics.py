"""Metrics equal a brute-force recount, ignored pixels left out, sums taken before any division."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from util.evaluate.metrics import class_counts, class_scores, episode_records, episode_scores

NOVEL = (2, 5)


def brute_iou(pairs: list[tuple[np.ndarray, np.ndarray]], value: int) -> float:
    """IoU of one label value over (prediction, label) pairs, pixel by pixel."""
    intersection = union = 0
    for prediction, label in pairs:
        for p, t in zip(prediction.ravel(), label.ravel()):
            if t != 255:
                intersection += p == value and t == value
                union += p == value or t == value
    return 100 * intersection / union


def random_episodes(seed: int, count: int = 12) -> list[tuple[np.ndarray, np.ndarray, int]]:
    random = np.random.default_rng(seed)
    label = random.choice([0, 0, 1, 1, 255], size=(count, 9, 7))
    prediction = random.integers(0, 2, size=(count, 9, 7))
    classes = random.choice(NOVEL, size=count)
    classes[: len(NOVEL)] = NOVEL
    return list(zip(prediction, label, classes.tolist()))


@pytest.mark.parametrize("seed", range(5))
def test_scores_of_episodes_equal_a_recount(seed: int):
    episodes = random_episodes(seed)
    records = [
        episode_records(n, torch.tensor([c]), torch.tensor(prediction), torch.tensor(label))
        for n, (prediction, label, c) in enumerate(episodes)
    ]
    scores = episode_scores(torch.cat(records).numpy(), 6)
    per_class = {str(c): brute_iou([(p, t) for p, t, k in episodes if k == c], 1) for c in NOVEL}
    assert scores["per_class"] == pytest.approx(per_class)
    assert scores["miou"] == pytest.approx(sum(per_class.values()) / len(per_class))
    sides = [brute_iou([(p, t) for p, t, _ in episodes], value) for value in (0, 1)]
    assert scores["fb_iou"] == pytest.approx(sum(sides) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_class_scores_equal_a_recount(seed: int):
    random = np.random.default_rng(seed)
    label = random.choice([0, 1, 2, 3, 255], size=(6, 8, 8))
    prediction = random.integers(0, 4, size=(6, 8, 8))
    scores = class_scores(class_counts(torch.tensor(prediction), torch.tensor(label), 5).numpy())
    expected = {str(c): brute_iou([(prediction, label)], c) for c in (1, 2, 3)}  # class 4 never occurs
    assert scores["per_class"] == pytest.approx(expected)
    assert scores["miou"] == pytest.approx(sum(expected.values()) / 3)
