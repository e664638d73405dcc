"""Metrics equal a brute-force recount, ignored pixels left out, sums taken before any division."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from util.evaluate.metrics import BinaryCounts, ClassCounts

CPU = torch.device("cpu")
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
@pytest.mark.parametrize("batch", [1, 5])
def test_binary_scores_equal_a_recount_in_any_batches(seed: int, batch: int):
    episodes = random_episodes(seed)
    counts = BinaryCounts.zeros(6, CPU)
    for i in range(0, len(episodes), batch):
        prediction, label, classes = zip(*episodes[i : i + batch])
        counts.add(torch.tensor(np.array(prediction)), torch.tensor(np.array(label)), torch.tensor(classes))
    scores = counts.scores()
    per_class = {c: brute_iou([(p, t) for p, t, k in episodes if k == c], 1) for c in NOVEL}
    assert scores["per_class"] == pytest.approx(per_class)
    assert scores["miou"] == pytest.approx(sum(per_class.values()) / len(per_class))
    sides = [brute_iou([(p, t) for p, t, _ in episodes], value) for value in (0, 1)]
    assert scores["fb_iou"] == pytest.approx(sum(sides) / 2)


def test_ignored_pixels_change_nothing():
    label = torch.tensor([[[1, 0], [255, 255]]])
    right, wrong = torch.tensor([[[1, 0], [1, 0]]]), torch.tensor([[[1, 0], [0, 1]]])
    scores = []
    for prediction in (right, wrong):
        counts = BinaryCounts.zeros(1, CPU)
        counts.add(prediction, label, torch.tensor([1]))
        scores.append(counts.scores())
    assert scores[0] == scores[1]
    assert scores[0]["miou"] == scores[0]["fb_iou"] == 100


@pytest.mark.parametrize("seed", range(4))
def test_class_scores_equal_a_recount(seed: int):
    random = np.random.default_rng(seed)
    label = random.choice([0, 1, 2, 3, 255], size=(6, 8, 8))
    prediction = random.integers(0, 4, size=(6, 8, 8))
    counts = ClassCounts.zeros(5, CPU)
    counts.add(torch.tensor(prediction), torch.tensor(label))
    expected = {c: brute_iou([(prediction, label)], c) for c in (1, 2, 3)}  # class 4 never occurs
    scores = counts.scores()
    assert scores["per_class"] == pytest.approx(expected)
    assert scores["miou"] == pytest.approx(sum(expected.values()) / 3)
