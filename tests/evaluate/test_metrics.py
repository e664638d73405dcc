"""Metrics equal a brute-force recount, ignored pixels left out, sums taken before any division."""

import numpy as np
import pytest
import torch

from util.evaluate.metrics import class_counts, class_scores, episode_records, episode_scores

NOVEL = (2, 5)


def brute_iou(pairs: list[tuple[np.ndarray, np.ndarray]], *values: int) -> float:
    """IoU of pixels of some label values over (prediction, label) pairs, pixel by pixel."""
    intersection = union = 0
    for prediction, label in pairs:
        for p, t in zip(prediction.ravel(), label.ravel()):
            if t != 255:
                intersection += p in values and t in values
                union += p in values or t in values
    return 100 * intersection / union


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_scores_of_episodes_equal_a_recount(seed: int, ways: int):
    """The classes of an episode are 2 and 5, or one of them in turn."""
    random, records, pairs = np.random.default_rng(seed), [], {2: [], 5: []}
    label = random.choice([*range(ways + 1), 1, 255], size=(12, 9, 7))
    prediction = random.integers(0, ways + 1, size=label.shape)
    for n, (p, t) in enumerate(zip(prediction, label)):
        classes = [NOVEL[n % 2], NOVEL[1 - n % 2]][:ways]
        records.append(episode_records(n, torch.tensor(classes), torch.tensor(p), torch.tensor(t)))
        for value, c in enumerate(classes, 1):
            pairs[c].append([np.where(x == 255, 255, x == value) for x in (p, t)])
    scores = episode_scores(torch.cat(records).numpy(), 6)
    per_class = {str(c): brute_iou(pairs[c], 1) for c in NOVEL}
    assert scores["per_class"] == pytest.approx(per_class)
    assert scores["miou"] == pytest.approx(sum(per_class.values()) / len(per_class))
    sides = brute_iou([*zip(prediction, label)], 0), brute_iou([*zip(prediction, label)], 1, 2)
    assert scores["fb_iou"] == pytest.approx(sum(sides) / 2)


def test_boundary_iou_is_summed_by_class_and_sees_labelled_pixels_alone():
    """The labelled part of each label is 60 x 80, whose diagonal is 100, so that d is 2; a void strip crosses it."""
    random, records, sums, steps = np.random.default_rng(0), [], np.zeros((6, 2)), range(-2, 3)
    for n, c in enumerate((*NOVEL, *NOVEL)):
        label, prediction = np.full((80, 80), 255), random.integers(0, 2, (80, 80))  # outside the labels without effect
        label[:60], prediction[:60] = 0, 0
        label[5:40, 10:50], prediction[9 - n : 44, 12:70], label[20:23] = 1, 1, 255
        masks = [np.pad(mask, 2) for mask in (label == 1, (prediction == 1) & (label != 255))]
        inner = [np.all([np.roll(m, (y, x), (0, 1)) for y in steps for x in steps], axis=0) for m in masks]
        band, true = (mask & ~within for mask, within in zip(masks, inner))
        sums[c] += (band & true).sum(), (band | true).sum()
        sides = torch.tensor([c]), torch.tensor(prediction), torch.tensor(label)
        records.append(episode_records(n, *sides, ["boundary_iou"]))
    score = episode_scores(torch.cat(records).numpy(), 6, ["boundary_iou"])["boundary_iou"]
    assert score == pytest.approx((100 * sums[[*NOVEL], 0] / sums[[*NOVEL], 1]).mean()) and 0 < score < 90


def test_class_scores_equal_a_recount():
    random = np.random.default_rng(0)
    label, prediction = random.choice([0, 1, 2, 3, 255], size=(6, 8, 8)), random.integers(0, 4, size=(6, 8, 8))
    scores = class_scores(class_counts(torch.tensor(prediction), torch.tensor(label), 5).numpy())
    expected = {str(c): brute_iou([(prediction, label)], c) for c in (1, 2, 3)}  # class 4 never occurs
    assert scores["per_class"] == pytest.approx(expected)
    assert scores["miou"] == pytest.approx(sum(expected.values()) / 3)
