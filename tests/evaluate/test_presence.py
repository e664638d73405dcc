"""Calibration on base classes, and tests whose queries may lack their class."""

import dataclasses
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.evaluate.quick import PROTOTYPE, lines
from tests.helpers.close import close
from tests.helpers.scored import score
from tests.model.small import drawn_episode, small_model
from util.config.compose import find_config
from util.config.read import read_config
from util.evaluate.calibrate import Collected, FoundMask, calibrate, fit_logistic
from util.evaluate.calibration import (
    FILE,
    FORMAT,
    SHIPPED,
    Calibration,
    calibration_error,
    find_calibration,
    logit,
    sigmoid,
)
from util.evaluate.presence import presence_scores
from util.evaluate.schema import MANIFEST, RESULT, read_result
from util.files.errors import UserError
from util.files.typecheck import convert
from util.report.one_result import score_table
from util.report.verify import AGREES, DIFFERS, checks_of
from util.run.build import build_model
from util.run.checkpoint import digest_of
from util.run.encoder_weights import fill_encoder
from util.run.run import TRAINING_FREE, Run

EPISODES = 40
QUICK = {"checkpoint": "none", "episodes": EPISODES, "seeds": [0]}


def test_the_regression_is_where_its_gradient_vanishes_and_tells_probabilities() -> None:
    random = np.random.default_rng(0)
    x = random.normal([3, -50], [0.1, 20], (4000, 2))
    true = 1 / (1 + np.exp(-(8 * (x[:, 0] - 3) - 0.05 * (x[:, 1] + 50) + 0.5)))
    y = random.random(len(x)) < true
    weights, bias = fit_logistic(x, y)
    fitted = np.array([sigmoid(z) for z in x @ weights + bias])
    assert abs(fitted - true).max() < 0.05
    assert fitted.mean() == pytest.approx(y.mean(), abs=1e-3)
    assert (sigmoid(-1e4), sigmoid(1e4)) == (0, 1)


def test_presence_scores_equal_a_recount_by_pairs() -> None:
    random = np.random.default_rng(1)
    present = random.random(40) < 0.4
    ranks = random.integers(0, 12, 40)
    shown = ranks > 5
    scores = presence_scores(present.tolist(), ranks.tolist(), shown.tolist())
    pairs = itertools.product(ranks[present], ranks[~present])
    wins = [(a > b) + (a == b) / 2 for a, b in pairs]
    assert scores["presence_auroc"] == pytest.approx(100 * np.mean(wins))
    assert scores["presence_accuracy"] == pytest.approx(100 * np.mean(shown == present))
    assert "presence_auroc" not in presence_scores([True], [1.0], [True])


def test_the_score_of_a_mask_is_how_often_it_overlaps_by_half() -> None:
    """Of masks that are right the more often, the surer presence and pixels are."""
    random = np.random.default_rng(2)
    fitted = Calibration(FORMAT, "", "", "", scale=1.0, offset=0.0, weights=[], bias=0.0, threshold=0.0)
    collected = Collected()
    presence = random.uniform(0.05, 0.95, 3000)
    true = []
    for episode, present in enumerate(presence):
        margin = random.uniform(0.1, 4)
        true.append(sigmoid(0.5 * logit(present) + 2 * margin - 5))
        iou = 0.6 if random.random() < true[-1] else 0.4
        collected.masks.append(FoundMask(episode, iou, np.full(500, margin, np.float32)))
    mask, error = collected.fit_masks(fitted, presence)
    assert mask is not None and "calibration error" in error
    scored = dataclasses.replace(fitted, mask=mask)
    pixels = [sigmoid(float(found.margins[0])) for found in collected.masks]
    scores = np.array([scored.score(p, q) for p, q in zip(presence, pixels, strict=True)])
    assert abs(scores - true).max() < 0.07
    assert calibration_error(np.array([0.2, 0.2, 0.9]), np.array([False, True, True])) == pytest.approx(0.7 / 3)
    assert fitted.score(0.9, 0.3) == 0.3  # without a fit
    assert Collected().fit_masks(fitted, presence)[0] is None


@pytest.mark.train
def test_a_calibration_is_made_on_training_images_and_taken_by_the_test(
    mini_yaml, tmp_path: Path, capsys, caplog
) -> None:
    path = mini_yaml(PROTOTYPE, test=QUICK)
    (plain,) = score(read_config(path), ("presence",))
    assert plain["calibration"] is None
    assert "always_shown" not in plain["mean"]
    without_test_images = ["data.test_list=no_such_list.txt", "test.episodes=160"]
    file = calibrate(read_config(path, without_test_images))
    assert file == tmp_path / "runs/tiny" / FILE
    check_report(file, capsys.readouterr().out)
    calibration = convert(Calibration, yaml.safe_load(file.read_text()), "")
    check_calibration(calibration)
    in_bf16 = find_calibration(read_config(path), TRAINING_FREE, plain["weights"], "bf16")
    assert in_bf16 == calibration
    assert f"{file}: was made in float32, this computes in bf16; make it again" in caplog.text
    (result,) = score(read_config(path, ["test.batch=3"]), ("presence",))
    folder = tmp_path / "runs/tiny/test/presence_quick"
    check_result(folder, result, plain, calibration)
    check_decisions(lines(folder), result, calibration.threshold)
    check_verification(folder, result)
    check_replays(path, folder / MANIFEST, result)


def check_report(file: Path, printed: str) -> None:
    """Check what a calibration prints."""
    assert f"calibration: {file}" in printed
    assert "presence accuracy" in printed
    assert "masks have no score of their own: all are right, or none is" in printed  # of random weights


def check_calibration(calibration: Calibration) -> None:
    """Check a calibration that was made on 160 episodes of fold 0."""
    assert calibration.scale > 0
    assert len(calibration.weights) == 6
    assert "base classes of fold 0, 160 episodes" in calibration.made_on
    assert calibration.precision == "float32"


def check_result(folder: Path, result: dict, plain: dict, calibration: Calibration) -> None:
    """Check a result with a calibration against one without, of the same episodes."""
    assert read_result(folder / RESULT) == result
    assert result["calibration"] == calibration.facts()
    assert result["episode_digests"] == plain["episode_digests"]
    assert result["mean"]["always_shown"]["miou"] == plain["mean"]["final"]["miou"]
    assert "AUROC" in str(score_table(result))


def check_decisions(episodes: list[dict], result: dict, threshold: float) -> None:
    """Check that masks of queries with a score below the threshold are empty, and how often that is right."""
    present = [episode["outputs"]["all_foreground"][0] > 0 for episode in episodes]
    assert 10 < sum(present) < 30
    shown = []
    for episode in episodes:
        final = episode["outputs"]["final"]
        always_shown = episode["outputs"]["always_shown"]
        if episode["presence"] < threshold:
            assert final[0] == 0
            shown.append(False)
        else:
            assert final == always_shown
            shown.append(always_shown[1] > 0)
    accuracy = 100 * np.mean(np.array(shown) == present)
    assert result["mean"]["final"]["presence_accuracy"] == pytest.approx(accuracy, abs=10)


def check_verification(folder: Path, result: dict) -> None:
    """Check that a result is verified, and that another accuracy is noticed."""
    assert {outcome for outcome, _ in checks_of(folder / RESULT, result).values()} == {AGREES}
    (scores,) = result["per_seed"]
    wrong_scores = scores | {"final": scores["final"] | {"presence_accuracy": 97.0}}
    checks = checks_of(folder / RESULT, result | {"per_seed": [wrong_scores]})
    assert checks["scores"][0] == DIFFERS


def check_replays(path: Path, manifest: Path, result: dict) -> None:
    """Check that a replay has the same scores; a protocol whose queries show their class refuses these episodes."""
    (replayed,) = score(read_config(path), ("presence",), manifest=manifest)
    assert replayed["per_seed"] == result["per_seed"]
    with pytest.raises(UserError, match=r"'.*' shows no pixel of class"):
        score(read_config(path), ("symnet",), manifest=manifest)


@torch.no_grad()
def test_a_base_learner_does_not_claim_a_class_that_plays_a_novel_one() -> None:
    network = small_model("symnet", 1)
    episode = drawn_episode("symnet", 1, batch=1)
    claimed = network(episode)
    free = network(dataclasses.replace(episode, spared_class=episode.base_id))
    assert not close(free.logits, claimed.logits)
    assert close(free.base_logits, claimed.base_logits)


CALIBRATED = sorted(path.stem.removesuffix("_lite0") for path in SHIPPED.glob("*_lite0.yaml"))


@pytest.mark.parametrize(("model", "other"), list(zip(CALIBRATED, reversed(CALIBRATED))))
def test_calibrations_of_lite0_are_shipped(model: str, other: str, tmp_path: Path, caplog) -> None:
    """Another image size or stage: the calibration belongs to the weights and the model's settings alone."""
    path = find_config("split0", "pascal", model, "lite0")
    sizes = ["run.folder=/no/folder", "data.size=33"]
    run = Run(read_config(path, sizes))
    network = build_model(run.config, run.text_width)
    fill_encoder(run.config, network)
    digest = digest_of(network.state_dict())
    shipped = find_calibration(run.config, "training-free", digest)
    assert shipped is not None
    assert shipped.model == network.title
    other_stage = read_config(path, [*sizes, "model.stage=4"])
    assert find_calibration(other_stage, "training-free", digest) is None
    file = tmp_path / FILE
    file.write_text((SHIPPED / f"{other}_lite0.yaml").read_text())
    stale = read_config(path, [f"run.folder={tmp_path.parent}", f"run.name={tmp_path.name}"])
    assert find_calibration(stale, "training-free", digest) == shipped
    assert not caplog.records
    assert find_calibration(stale, "training-free", "other weights") is None
    file.write_text("calibration: sym-net-calibration/1\nweights: many\n")
    with pytest.raises(UserError, match=re.escape(str(file)) + ".*weights = 'many' must be"):
        find_calibration(stale, "training-free", digest)
