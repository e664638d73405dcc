"""Metrics equal a brute-force recount, ignored pixels left out, sums taken before any division."""

from statistics import fmean
from typing import Any

import numpy as np
import pytest
import torch

from util.files.errors import UserError
from util.loop.mask_metrics import METRICS, EpisodeCounts, SeenEpisode, counted_in_episodes, metric
from util.loop.metrics import class_counts, class_scores, episode_records, episode_scores, mean_iou

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
    pairs = [*zip(random.integers(0, ways + 1, size=labels.shape), labels)]
    records = []
    of_class = {"2": [], "5": []}  # prediction and label of each episode of a class, which is 1 there
    for number, pair in enumerate(pairs):
        classes = [(2, 5), (5, 2)][number % 2][:ways]
        records.append(episode_records(number, torch.tensor(classes), *map(torch.tensor, pair)))
        for value, class_id in enumerate(classes, 1):
            prediction, label = pair
            of_class[str(class_id)].append((prediction == value, np.where(label == 255, 255, label == value)))
    scores = episode_scores(torch.cat(records).numpy(), 6)
    per_class = {name: brute_iou(masks, 1) for name, masks in of_class.items()}
    assert scores["per_class"] == pytest.approx(per_class)
    assert scores["miou"] == pytest.approx(fmean(per_class.values()))
    assert scores["fb_iou"] == pytest.approx(fmean([brute_iou(pairs, 0), brute_iou(pairs, 1, 2)]))


def inner_band(mask: np.ndarray) -> np.ndarray:
    """Pixels of a mask that have a pixel outside within two steps in every direction; its image ends in background."""
    padded = np.pad(mask, 2)
    steps = range(-2, 3)
    return padded & ~np.all([np.roll(padded, (y, x), (0, 1)) for y in steps for x in steps], axis=0)


def test_boundary_iou_is_summed_by_class_and_sees_labelled_pixels_alone():
    """The labelled part of each label is 60 x 80, whose diagonal is 100, so that d is 2; a void strip crosses it."""
    random = np.random.default_rng(0)
    records = []
    intersection = np.zeros(6)
    union = np.zeros(6)
    label = np.full((80, 80), 255)
    label[:60] = 0
    label[5:40, :50] = 1
    label[20:23] = 255
    true_band = inner_band(label == 1)
    for number, class_id in enumerate((*NOVEL, *NOVEL)):
        prediction = random.integers(0, 2, (80, 80))  # outside the labels without effect
        prediction[:60] = 0
        prediction[9 - number : 44, 12:] = 1
        band = inner_band((prediction == 1) & (label != 255))
        intersection[class_id] += (band & true_band).sum()
        union[class_id] += (band | true_band).sum()
        given = map(torch.tensor, ([class_id], prediction, label))
        records.append(episode_records(number, *given, ["boundary_iou"]))
    score = episode_scores(torch.cat(records).numpy(), 6, {"boundary_iou": 100})["boundary_iou"]
    assert score == pytest.approx(100 * (intersection[[*NOVEL]] / union[[*NOVEL]]).mean())
    assert 0 < score < 90


def test_class_scores_equal_a_recount():
    random = np.random.default_rng(0)
    label = random.choice([0, 1, 2, 3, 255], size=(6, 8, 8))
    prediction = random.integers(0, 5, size=(6, 8, 8))
    scores = class_scores(class_counts(torch.tensor(prediction), torch.tensor(label), 6).numpy())
    expected = {str(c): brute_iou([(prediction, label)], c) for c in (1, 2, 3)}  # 4 is only predicted, 5 never occurs
    assert scores["per_class"] == pytest.approx(expected)
    assert scores["miou"] == pytest.approx(fmean(expected.values()))


def test_a_class_that_occurred_without_a_pixel_counts_as_an_iou_of_0():
    """Classes 0 and 3 never occurred: they do not count, whatever their union."""
    assert mean_iou(np.array([0, 6, 0, 5]), np.array([0, 8, 0, 5]), np.array([0, 2, 1, 0])) == 75 / 2


@pytest.mark.parametrize("whole", [1, np.uint64(1), np.float32(2**-9)])
def test_a_mean_of_episodes_is_averaged_within_its_class_first(whole: float, monkeypatch: pytest.MonkeyPatch):
    """Its wholes may sum to less than 1, and be of any type: what is counted beside it stays exact."""
    kind = type(whole)

    def count(mask: np.ndarray, true: np.ndarray, _: np.ndarray) -> tuple:
        return (kind((true > mask).sum() * whole), whole) if true.any() else (0, 0)

    monkeypatch.setitem(METRICS, "missed", metric("missed", count, "missed", unit="px", scale=1))
    label = torch.zeros(60, 80, dtype=torch.long)
    label[20:40, 20:40] = 1
    records = []
    for number, (class_id, prediction) in enumerate(((2, label), (2, 0 * label), (5, label), (6, label))):
        true = 0 * label if class_id == 6 else label  # of which nothing is counted
        records.append(episode_records(number, torch.tensor([class_id]), prediction, true, ["missed"]))
    together = torch.cat(records)
    assert together.dtype == (torch.float64 if kind is np.float32 else torch.int64)
    scores = episode_scores(together.numpy(), 6, {"missed": 1})
    assert scores["per_class_missed"] == pytest.approx({"2": 200, "5": 0})  # 2: 0 and the whole object of 400 pixels
    assert (scores["missed"], scores["miou"]) == pytest.approx((100, 50))
    assert "missed" not in episode_scores(together.numpy()[-1:], 6, {"missed": 1})


def test_a_metric_may_see_the_episode_or_all_counts_at_the_end(monkeypatch: pytest.MonkeyPatch):
    seen = list[SeenEpisode]()

    def twice_class(*arguments: Any) -> tuple[int, int]:
        seen.append(arguments[3])
        assert seen[-1].class_map.tolist() == [[0, 2], [5, 4]]
        return 2 * seen[-1].class_id, 1

    def spread(counts: EpisodeCounts) -> float:
        assert counts.number.tolist() == [0, 0, 1, 1] and counts.class_id.tolist() == [2, 5, 2, 5]
        return float(np.ptp(counts.intersection / counts.union))

    monkeypatch.setitem(METRICS, "class", metric("twice", twice_class, "class", scale=1, sees_episode=True))
    monkeypatch.setitem(METRICS, "spread", metric("spread", spread, "spread", at_end=True))
    label = torch.tensor([[0, 1], [2, 2]])
    of_all = torch.tensor([[0, 2], [5, 4]])
    class_ids = torch.tensor([2, 5])
    further = counted_in_episodes(["class", "spread"])
    records = [
        episode_records(
            number, class_ids, torch.tensor(mask), label, further, query=f"photo{number}", class_map_hw=of_all
        )
        for number, mask in enumerate(([[0, 1], [2, 2]], [[0, 1], [2, 1]]))
    ]
    assert seen[1] == SeenEpisode(0, "photo0", 5, label.numpy())
    scores = episode_scores(torch.cat(records).numpy(), 6, {"class": 1}, ["spread"])
    assert (scores["class"], scores["per_class_class"], scores["spread"]) == (7, {"2": 4, "5": 10}, 50)


ANSWERS = {"nan": (float("nan"), 1), "of nothing": (0.5, 0), "alone": 0.5, "none": None, "text": ("a", "b")}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=list(ANSWERS))
def test_an_own_metric_that_counts_no_part_of_a_whole_is_refused(answer: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(METRICS, "own", metric("own", lambda *_: answer, "own"))
    label = torch.ones(2, 2, dtype=torch.long)
    with pytest.raises(UserError, match="metric own failed: "):
        episode_records(0, torch.tensor([2]), label, label, ["own"])
    with pytest.raises(ValueError, match="'miou' is a key of every result; rename it"):
        METRICS.register("miou", "mIoU")(lambda *_: answer)
