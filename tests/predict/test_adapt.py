"""Adaptation to the supports: folds, the comparison, the choice, and the lines that say why there is none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from util.errors import UserError
from util.predict import Segmenter, adapted
from util.predict.adapt import CHANCE, FOLDS, MIN_SUPPORTS, _chance, photos_of
from util.predict.supports import Support

SIDE, SQUARE, SHOTS = 64, 24, 6


def _support(seed: int, colour: int) -> Support:
    """Return a noisy photo with a square brighter in one channel."""
    random = np.random.default_rng(seed)
    image, label = random.integers(0, 120, (SIDE, SIDE, 3)).astype(np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    top, left = random.integers(0, SIDE - SQUARE, 2)
    inside = slice(top, top + SQUARE), slice(left, left + SQUARE)
    image[(*inside, colour)] += 130
    label[inside] = 1
    return Support(image, label, f"photo{seed}")


@pytest.fixture
def segmenter(baseline: Path) -> Segmenter:
    """Return a segmenter of a class with enough supports, by the prototype baseline with random weights."""
    out = Segmenter(config=baseline, device="cpu")
    out.add("red", [_support(seed, 0) for seed in range(SHOTS)])
    return out


def test_the_better_one_in_cross_validation_is_used(segmenter: Segmenter) -> None:
    segmenter.add("green", [_support(seed, 1) for seed in range(10, 10 + SHOTS)])
    chosen = adapted(segmenter)
    facts = chosen.adaptation
    assert facts["chosen"] == max(facts["iou"], key=facts["iou"].get) == chosen.model.network.title
    assert facts["iou"].keys() == {"prototype baseline", "linear probe"} and facts["photos"] == 2 * SHOTS
    assert segmenter.adaptation is None and facts["chosen"] in chosen.notes[-1].rpartition("uses ")[2]
    found, by_network = (one(_support(99, 0).image).probability for one in (chosen, segmenter))
    assert found.shape == (2, SIDE, SIDE) and np.isfinite(found).all()
    assert np.array_equal(found, by_network) == (facts["chosen"] == "prototype baseline")


def test_a_photo_of_two_classes_is_one_and_folds_leave_supports_of_each(segmenter: Segmenter) -> None:
    shared = [Support(s.image, np.roll(s.label, SIDE // 2, 0), s.source) for s in map(_support, range(5), [0] * 5)]
    segmenter.add("blue", [_support(20, 2), *shared])
    photos = photos_of(segmenter)
    assert len(photos) == SHOTS + 1 and sum(len(photo.shots) for photo in photos) == 2 * SHOTS
    assert set(photos[0].label.unique().tolist()) >= {0, 2}
    for number in range(2):
        folds = [photo.fold for photo in photos if number in photo.shots]
        assert set(folds) == set(range(FOLDS))


def test_few_supports_give_a_line_and_the_network_itself(
    predict, baseline: Path, marked: dict, photos: list[Path], tmp_path: Path
) -> None:
    words = ("--config", baseline, "--support", marked["box"], "--query", photos[0], "--out", tmp_path, "--adapt")
    line = predict(*words).output.splitlines()[0]
    assert line == f"--adapt: needs {MIN_SUPPORTS} supports of each class, object has 1; uses prototype baseline"
    record = json.loads((tmp_path / f"{photos[0].stem}.json").read_text())
    assert record["adapt"] == {"chosen": "prototype baseline", "supports": 1}


def test_what_cannot_be_compared_is_refused(make_checkpoint, empty_segmenter) -> None:
    five = Segmenter(make_checkpoint("", "data.shot=5"))
    five.add("red", [_support(seed, 0) for seed in range(5)])
    for segmenter in (empty_segmenter(), five):
        with pytest.raises(UserError, match="omit --adapt"):
            adapted(segmenter)


def test_an_advantage_within_the_spread_of_the_photos_is_chance() -> None:
    network = np.array([55.0, 40, 30, 50, 22.5])
    assert _chance(np.array([41.0, 70, 20, 55, 21.5]), network) > CHANCE  # 2 % better on average
    assert _chance(network + np.array([1.5, 2, 2.5, 2, 2]), network) < CHANCE
