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
        for predicted, true in zip(prediction.ravel(), label.ravel()):
            if true != 255:
                hits = [predicted in values, true in values]
                intersection += all(hits)
                union += any(hits)
    return 100 * intersection / union


@pytest.mark.parametrize("ways", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_scores_of_episodes_equal_a_recount(seed: int, ways: int):
    """The classes of an episode are 2 and 5, or one of them in turn."""
    random = np.random.default_rng(seed)
    labels = random.choice([*range(ways + 1), 1, 255], size=(12, 9, 7))
    predictions = random.integers(0, ways + 1, size=labels.shape)
    records = []
    masks: dict[int, list] = {c: [] for c in NOVEL}  # (prediction, label) of each episode of a class
    for n, (prediction, label) in enumerate(zip(predictions, labels)):
        classes = [NOVEL[n % 2], NOVEL[1 - n % 2]][:ways]
        records.append(episode_records(n, torch.tensor(classes), torch.tensor(prediction), torch.tensor(label)))
        for value, c in enumerate(classes, 1):
            true = np.where(label == 255, 255, label == value)
            masks[c].append((prediction == value, true))
    scores = episode_scores(torch.cat(records).numpy(), 6)
    per_class = {str(c): brute_iou(masks[c], 1) for c in NOVEL}
    assert scores["per_class"] == pytest.approx(per_class)
    assert scores["miou"] == pytest.approx(np.mean(list(per_class.values())))
    pairs = list(zip(predictions, labels))
    background = brute_iou(pairs, 0)
    foreground = brute_iou(pairs, 1, 2)
    assert scores["fb_iou"] == pytest.approx((background + foreground) / 2)


def inner_band(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a pixel outside within two steps in every direction; its image ends in background."""
    padded = np.pad(mask, 2)
    steps = range(-2, 3)
    shifted = [np.roll(padded, (y, x), (0, 1)) for y in steps for x in steps]
    return padded & ~np.all(shifted, axis=0)


def test_boundary_iou_is_summed_by_class_and_sees_labelled_pixels_alone():
    """The labelled part of each label is 60 x 80, whose diagonal is 100, so that d is 2; a void strip crosses it."""
    random = np.random.default_rng(0)
    records = []
    intersection = np.zeros(6)
    union = np.zeros(6)
    for n, c in enumerate((*NOVEL, *NOVEL)):
        label = np.full((80, 80), 255)
        label[:60] = 0
        label[5:40, 10:50] = 1
        label[20:23] = 255
        prediction = random.integers(0, 2, (80, 80))  # outside the labels without effect
        prediction[:60] = 0
        prediction[9 - n : 44, 12:70] = 1
        true_band = inner_band(label == 1)
        band = inner_band((prediction == 1) & (label != 255))
        intersection[c] += (band & true_band).sum()
        union[c] += (band | true_band).sum()
        class_ids = torch.tensor([c])
        records.append(episode_records(n, class_ids, torch.tensor(prediction), torch.tensor(label), ["boundary_iou"]))
    score = episode_scores(torch.cat(records).numpy(), 6, ["boundary_iou"])["boundary_iou"]
    novel = list(NOVEL)
    assert score == pytest.approx((100 * intersection[novel] / union[novel]).mean())
    assert 0 < score < 90


def test_class_scores_equal_a_recount():
    random = np.random.default_rng(0)
    label = random.choice([0, 1, 2, 3, 255], size=(6, 8, 8))
    prediction = random.integers(0, 4, size=(6, 8, 8))
    counts = class_counts(torch.tensor(prediction), torch.tensor(label), 5)
    scores = class_scores(counts.numpy())
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
    surface, other_surface = (surface_of(mask) for mask in pair)
    apart = np.linalg.norm(surface[:, None] - other_surface[None], axis=-1)
    directed = apart.min(1), apart.min(0)
    labelled = np.ones_like(pair[0])
    expected = max(np.percentile(values, 95) for values in directed)
    assert METRICS["hd95"].part_and_whole(*pair, labelled) == (pytest.approx(expected, abs=1e-5), 1)
    expected = np.concatenate(directed).mean()
    assert METRICS["assd"].part_and_whole(*pair, labelled) == (pytest.approx(expected, abs=1e-5), 1)


@pytest.mark.parametrize("metric, worst, best", [("hd95", 100, 0), ("assd", 100, 0), ("cldice", 0, 1)])
def test_empty_masks_have_the_worst_distance_beside_a_mask_and_the_best_beside_each_other(metric, worst, best):
    labelled = np.ones((60, 80), np.uint8)  # its diagonal is 100
    empty = np.zeros_like(labelled)
    mask = labelled.copy()
    count = METRICS[metric].part_and_whole
    assert count(mask, empty, labelled) == count(empty, mask, labelled) == (worst, 1)
    assert count(empty, empty, labelled) == count(mask, mask, labelled) == (best, 1)


def test_centreline_dice_of_a_line_of_which_half_is_predicted():
    """The centreline of a bar: half of its skeleton is in the predicted half, whose skeleton is in the bar."""
    bar = np.zeros((21, 200), np.uint8)
    bar[8:13] = 1
    half = bar.copy()
    half[:, 100:] = 0
    value, _ = METRICS["cldice"].part_and_whole(half, bar, np.ones_like(bar))
    assert value == pytest.approx(2 / 3, abs=0.02)


def test_centreline_dice_is_the_same_from_all_sides():
    """Two small blocks, for which one skeleton each gives 0 to 1 depending on the side."""
    mask, true = np.zeros((2, 12, 15), np.uint8)
    mask[6:9, 5:7] = true[5:8, 5:8] = 1
    turned = [(np.rot90(mask, quarters), np.rot90(true, quarters)) for quarters in range(4)]
    mirrored = [(first[:, ::-1], second[:, ::-1]) for first, second in turned]
    values = {METRICS["cldice"].part_and_whole(*pair, np.ones_like(pair[0])) for pair in turned + mirrored}
    assert len(values) == 1 and values.pop()[0] == pytest.approx(0.5345, abs=1e-4)


def test_a_mean_of_episodes_is_averaged_within_its_class_first():
    label = torch.zeros(60, 80, dtype=torch.long)
    label[20:40, 20:40] = 1
    predictions = [label, torch.zeros_like(label), label]
    records = []
    for n, (c, prediction) in enumerate(zip((2, 2, 5), predictions)):
        records.append(episode_records(n, torch.tensor([c]), prediction, label, ["hd95"]))
    scores = episode_scores(torch.cat(records).numpy(), 6, ["hd95"])
    assert scores["hd95"] == pytest.approx((50 + 0) / 2)  # class 2: 0 and the diagonal of 100
    assert scores["per_class_hd95"] == pytest.approx({"2": 50, "5": 0})
    assert scores["miou"] == pytest.approx((50 + 100) / 2)
