"""Metrics equal a brute-force recount, ignored pixels left out, sums taken before any division."""

import numpy as np
import pytest
import torch

from util.evaluate.mask_metrics import METRICS
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


def disc(radius: float, x: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[:64, :64]
    return ((rows - 32) ** 2 + (columns - x) ** 2 <= radius**2).astype(np.uint8)


def surface_of(mask: np.ndarray) -> np.ndarray:
    """Coordinates of the pixels of a mask with a direct neighbour outside."""
    padded = np.pad(mask, 1)
    around = [np.roll(padded, shift, axis)[1:-1, 1:-1] for axis in (0, 1) for shift in (-1, 1)]
    return np.argwhere((mask == 1) & (np.min(around, axis=0) == 0))


@pytest.mark.parametrize("pair", [(disc(20), disc(14)), (disc(10, 12), disc(10, 40)), (disc(5), disc(5))])
def test_surface_distances_equal_all_pairs(pair: tuple[np.ndarray, np.ndarray]):
    surfaces = [surface_of(mask) for mask in pair]
    apart = np.linalg.norm(surfaces[0][:, None] - surfaces[1][None], axis=-1)
    directed = apart.min(1), apart.min(0)
    labelled = np.ones_like(pair[0])
    expected = max(np.percentile(values, 95) for values in directed)
    assert METRICS["hd95"].part_and_whole(*pair, labelled) == (pytest.approx(expected, abs=1e-5), 1)
    expected = np.concatenate(directed).mean()
    assert METRICS["assd"].part_and_whole(*pair, labelled) == (pytest.approx(expected, abs=1e-5), 1)


@pytest.mark.parametrize("metric, worst, best", [("hd95", 100, 0), ("assd", 100, 0), ("cldice", 0, 1)])
def test_empty_masks_have_the_worst_distance_beside_a_mask_and_the_best_beside_each_other(metric, worst, best):
    labelled = np.ones((60, 80), np.uint8)  # its diagonal is 100
    empty, mask = np.zeros_like(labelled), labelled.copy()
    count = METRICS[metric].part_and_whole
    assert count(mask, empty, labelled) == count(empty, mask, labelled) == (worst, 1)
    assert count(empty, empty, labelled) == count(mask, mask, labelled) == (best, 1)


def test_centreline_dice_of_a_line_that_is_half_found():
    """The centreline of a bar: half of its skeleton is in the found half, whose skeleton is in the bar."""
    bar = np.zeros((21, 200), np.uint8)
    bar[8:13] = 1
    half = bar.copy()
    half[:, 100:] = 0
    value, _ = METRICS["cldice"].part_and_whole(half, bar, np.ones_like(bar))
    assert value == pytest.approx(2 / 3, abs=0.02)


def test_a_mean_of_episodes_is_averaged_within_its_class_first():
    label = torch.zeros(60, 80, dtype=torch.long)
    label[20:40, 20:40] = 1
    found = [label, torch.zeros_like(label), label]
    records = [
        episode_records(n, torch.tensor([c]), p, label, ["hd95"]) for n, (c, p) in enumerate(zip((2, 2, 5), found))
    ]
    scores = episode_scores(torch.cat(records).numpy(), 6, ["hd95"])
    assert scores["hd95"] == pytest.approx((50 + 0) / 2)  # class 2: 0 and the diagonal of 100
    assert scores["miou"] == pytest.approx((50 + 100) / 2)
