"""The choice by the supports: folds, candidates, presence scores, doubtful supports, encoders."""

import io
import json
import signal
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from model.common.adaptation import AdaptSettings
from util.checkpoints.checkpoint import digest_of
from util.errors import UserError
from util.evaluate.calibration import Calibration
from util.export.export import write_export
from util.predict import Segmenter, adapted
from util.predict.adapt import FOLDS, GAIN, INTERRUPTED, MATERIAL, TAUGHT_GAIN, _best, along_border
from util.predict.command import digest_of_inputs
from util.predict.left_out import Candidate, LeftOut, doubtful_in, photos_of
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
def learner(make_checkpoint) -> Callable[[list[Support]], Segmenter]:
    """Return a function that gives a segmenter of a class by SSP on an encoder that can be adapted."""

    def give(supports: list[Support]) -> Segmenter:
        torch.manual_seed(1)
        out = Segmenter(make_checkpoint("ssp", "model.encoder.backbone=timm/test_efficientnet"), device="cpu")
        out.add("red", supports)
        return out

    return give


@pytest.fixture
def segmenter(baseline: Path) -> Segmenter:
    """Return a segmenter of a class with enough supports, by the prototype baseline with random weights."""
    out = Segmenter(config=baseline, device="cpu")
    out.add("red", [_support(seed, 0) for seed in range(SHOTS)])
    return out


def test_the_best_one_given_the_others_is_used(segmenter: Segmenter) -> None:
    segmenter.add("green", [_support(seed, 1) for seed in range(10, 10 + SHOTS)])
    known = Calibration("sym-net-calibration/1", "", "", "", 1.0, 0.0, [0.0, 0.0, 0.0, 0.0, 0.0, 1.0], 0.0, 0.5)
    segmenter.calibration = known
    chosen = adapted(segmenter)
    facts = chosen.adaptation
    assert (
        facts["iou"][facts["chosen"]] >= facts["iou"]["prototype baseline"]
        and f"uses {facts['chosen']}" in chosen.notes[-1]
    )
    assert facts["chosen"] == chosen.model.network.title
    assert facts["predictions"] == 2 * 2 * SHOTS and segmenter.adaptation is None
    assert all(facts["presence_shift"].values()) and not any(one.presence_shift for one in segmenter.classes)


def test_a_gain_of_ten_points_is_needed_and_of_one_by_an_encoder_that_learnt(segmenter: Segmenter) -> None:
    def trial(title: str, iou: float, gain: float) -> LeftOut:
        candidate = Candidate(title, lambda _: segmenter, gain)
        return LeftOut(candidate, np.full((SHOTS, 1), iou), np.full((SHOTS, 1), np.nan))

    cases = ((GAIN - 1, GAIN, "plain"), (GAIN, GAIN, "other"), (TAUGHT_GAIN, TAUGHT_GAIN, "other"), (0.5, 1.0, "plain"))
    for gained, needed, chosen in cases:
        trials = [trial("plain", 40.0, GAIN), trial("other", 40.0 + gained, needed)]
        assert _best(segmenter, trials, [*range(SHOTS)])[1]["chosen"] == chosen


def test_presence_moves(segmenter: Segmenter) -> None:
    photo, (known,) = _support(99, 0).image, segmenter.classes
    segmenter.calibration = Calibration("sym-net-calibration/1", "", "", "", 1.0, 0.0, [0.0] * 6, 0.0, 0.5)
    plain = segmenter(photo)
    segmenter.classes = [replace(known, presence_shift=1.0)]
    moved = segmenter(photo)
    assert plain.presence == [0.5] and moved.presence == [pytest.approx(1 / (1 + np.exp(-1)))]
    assert np.array_equal(moved.probability, plain.probability)


def test_a_photo_of_two_classes_is_one_and_folds_leave_supports_of_each(segmenter: Segmenter) -> None:
    shared = [Support(s.image, np.roll(s.label, SIDE // 2, 0), s.source) for s in map(_support, range(5), [0] * 5)]
    segmenter.add("blue", [_support(20, 2), *shared])
    photos = photos_of(segmenter, FOLDS)
    assert len(photos) == SHOTS + 1 and sum(len(photo.shots) for photo in photos) == 2 * SHOTS
    assert set(photos[0].label.unique().tolist()) >= {0, 2}
    for number in range(2):
        folds = [photo.fold for photo in photos if number in photo.shots]
        assert set(folds) == set(range(FOLDS))


def test_a_support_that_is_not_found_while_the_others_are_is_doubtful() -> None:
    iou = np.full((7, 2), np.nan)
    iou[:4, 0], iou[3:, 1] = [60, 70, 2, 65], [60, 20, 3, 1]
    assert doubtful_in(iou) == [(2, 0)]


def test_a_mark_along_the_border_is_of_a_material(empty_segmenter) -> None:
    image, label = np.zeros((40, 60, 3), np.uint8), np.zeros((40, 60), np.uint8)
    label[20:] = 1
    segmenter = empty_segmenter()
    segmenter.add("floor", [Support(image, label, "floor")])
    chosen = adapted(segmenter)
    assert chosen.adaptation == {"chosen": "linear probe"} and chosen.presence_by is segmenter
    assert along_border(segmenter.classes[0].labels[0, 0]) == pytest.approx(0.5, abs=0.03) and MATERIAL < 0.5
    label[:, 15:] = 0
    segmenter = empty_segmenter()
    segmenter.add("corner", [Support(image, label, "corner")])
    assert adapted(segmenter) is segmenter and along_border(torch.full((4, 4), 1)) == 1


def test_three_supports_choose_unless_told_not_to(predict, baseline: Path, photos: list[Path], tmp_path: Path) -> None:
    words: list[object] = ["--config", baseline, "--query", photos[0], "--out", tmp_path / "out"]
    for seed in range(3):
        Image.fromarray(_support(seed, 0).image).save(tmp_path / f"{seed}.png")
        words += ["--support", f"{tmp_path / str(seed)}.png:box=5,5,30,30"]
    assert "given the others" in predict(*words).output
    record = json.loads((tmp_path / "out" / f"{photos[0].stem}.json").read_text())
    assert record["adapt"]["predictions"] == 3 and "seconds" in record["adapt"]
    assert "1 of 1 results are complete" in predict(*words, "--resume", "--name", "object").output
    assert "--adapt" not in predict(*words, "--adapt", "none", "--overwrite").output


def test_an_adapted_encoder_is_used_if_it_gains(learner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = sys.modules[along_border.__module__]
    monkeypatch.setattr(module, "SETTINGS", AdaptSettings(20, 1e-2, stages=2))  # random weights need much
    segmenter, photo = learner([_support(seed, 0) for seed in range(3)]), _support(99, 0).image
    before, plain = digest_of(segmenter.model.network.state_dict()), segmenter(photo).probability
    used, again = adapted(segmenter, encoder=True), adapted(segmenter, encoder=True)
    assert digest_of(segmenter.model.network.state_dict()) == before and (segmenter(photo).probability == plain).all()
    facts = used.adaptation
    assert facts["gain"] == pytest.approx(facts["iou"]["SSP, adapted"] - facts["iou"]["SSP"], abs=0.01)
    assert facts["gain"] >= TAUGHT_GAIN and "TaP of 20 steps" in facts["encoder"]
    assert f"uses SSP, adapted, {facts['gain']:+.1f}" in used.notes[-1]
    assert (used(photo).probability != plain).any()
    assert digest_of_inputs(used) == digest_of_inputs(again) != digest_of_inputs(segmenter)
    with pytest.raises(UserError, match="not exported"):
        write_export(used, tmp_path / "out", "pt2")
    assert adapted(learner([_support(seed, 0) for seed in range(2)]), encoder=True).adaptation["gain"] >= TAUGHT_GAIN
    monkeypatch.setattr(module, "SETTINGS", AdaptSettings(2, 1e-9))
    refused = adapted(segmenter, encoder=True)
    assert refused.model.network is segmenter.model.network and {*refused.adaptation["iou"]} == {"SSP", "SSP, adapted"}


def test_an_interrupt_leaves_the_others(learner, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupts(io.StringIO):
        def write(self, text: str) -> int:
            if "an encoder learns, about" in text:
                signal.raise_signal(signal.SIGINT)
            return super().write(text)

    segmenter = learner([_support(seed, 0) for seed in range(3)])
    monkeypatch.setattr(sys, "stdout", Interrupts())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        left = adapted(segmenter, progress=True, encoder=True)
    finally:
        signal.signal(signal.SIGINT, before)
    assert left.adaptation["encoder"] == INTERRUPTED and {*left.adaptation["iou"]} == {"SSP"}
    assert f"without an adapted encoder: {INTERRUPTED}" in left.notes[-1]
    assert left.model.network is segmenter.model.network


def test_an_encoder_that_cannot_learn_stays_as_it_is(learner, segmenter: Segmenter, make_checkpoint) -> None:
    marked = [_support(seed, 0) for seed in range(5)]
    exact = Segmenter(make_checkpoint("", "data.shot=5"), device="cpu")
    exact.add("red", marked)
    whole = [replace(support, label=np.ones_like(support.label)) for support in marked[:3]]
    for given, reason in (
        (learner(marked[:1]), "takes two supports"),
        (exact, "weights for any number"),
        (learner(whole), "background beside the object"),
        (segmenter, "no layer can be adapted"),
    ):
        left = adapted(given, encoder=True)
        assert reason in left.notes[-1] and reason in left.adaptation["encoder"], reason
        assert left.model.network is given.model.network or "chosen" in left.adaptation


def test_adapt_without_a_word_is_the_encoder(predict, baseline: Path, marked, photos, tmp_path: Path) -> None:
    words = ["--config", baseline, "--support", marked["box"], "--query", photos[0], "--out", tmp_path / "out"]
    assert "an adapted encoder takes two supports" in predict(*words, "--adapt").output
    assert "two supports" in json.loads((tmp_path / "out" / f"{photos[0].stem}.json").read_text())["adapt"]["encoder"]
    assert "1 of 1 results are complete" in predict(*words, "--adapt", "--resume").output
    assert "--serve: takes no --adapt encoder" in predict("--config", baseline, "--serve", "--adapt").error
