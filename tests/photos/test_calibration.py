"""The calibration of a method: its fit on base classes, and where it is found."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from photos.calibrate import Collected, FoundMask, fit_logistic
from photos.calibration import (
    FILE,
    FORMAT,
    SHIPPED,
    Calibration,
    find_calibration,
    logit,
    sigmoid,
)
from util.config.compose import find_config
from util.config.read import read_config
from util.files.errors import UserError
from util.files.typecheck import convert
from util.run.build import build_model
from util.run.run import TRAINING_FREE, Run
from util.weights.checkpoint import digest_of
from util.weights.encoders import start_encoders


def test_the_regression_is_where_its_gradient_vanishes_and_tells_probabilities() -> None:
    random = np.random.default_rng(0)
    x = random.normal([3, -50], [0.1, 20], (4000, 2))
    true = np.array([*map(sigmoid, (x - [3, -50]) @ [8, -0.05] + 0.5)])
    y = random.random(4000) < true
    weights, bias = fit_logistic(x, y)
    fitted = np.array([*map(sigmoid, x @ weights + bias)])
    assert abs(fitted - true).max() < 0.05
    assert fitted.mean() == pytest.approx(y.mean(), abs=1e-3)
    assert (sigmoid(-1e4), sigmoid(1e4)) == (0, 1)


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
    mask = collected.fit_masks(fitted, presence)
    assert mask is not None
    scored = dataclasses.replace(fitted, mask=mask)
    pixels = [sigmoid(float(found.margins[0])) for found in collected.masks]
    scores = np.array([scored.score(p, q) for p, q in zip(presence, pixels, strict=True)])
    assert abs(scores - true).max() < 0.07
    assert fitted.score(0.9, 0.3) == 0.3  # without a fit
    assert Collected().fit_masks(fitted, presence) is None


@pytest.mark.train
def test_a_calibration_is_made_on_training_images(mini_yaml, tmp_path: Path, predict, caplog) -> None:
    path = mini_yaml("prototype", test={"checkpoint": "none"})
    outcome = predict("calibrate", path, "--set", "data.test_list=no_such_list.txt", "--set", "test.episodes=160")
    file = tmp_path / "runs/tiny" / FILE
    assert f"calibration: {file}" in outcome.output and "presence accuracy" in outcome.output
    made = convert(Calibration, yaml.safe_load(file.read_text()), "")
    assert (made.scale > 0, made.threshold < 0.5, len(made.weights), made.precision) == (True, True, 6, "float32")
    assert "base classes of fold 0, 160 episodes" in made.made_on
    with caplog.at_level("WARNING"):
        assert find_calibration(read_config(path), TRAINING_FREE, "other weights") is None
    assert f"{file}: is of other weights or model settings, so it is not used" in caplog.text


CALIBRATED = sorted(path.stem.removesuffix("_lite0") for path in SHIPPED.glob("*_lite0.yaml"))


@pytest.mark.parametrize(("model", "other"), list(zip(CALIBRATED, reversed(CALIBRATED))))
def test_calibrations_of_lite0_are_shipped(model: str, other: str, tmp_path: Path, caplog) -> None:
    """Another image size or stage: the calibration belongs to the weights and the model's settings alone."""
    path = find_config("split0", "pascal", model, "lite0")
    sizes = ["run.folder=/no/folder", "data.size=33"]
    run = Run(read_config(path, sizes))
    network = build_model(run.config, run.text_width)
    start_encoders(run.config, network)
    digest = digest_of(network.state_dict())
    shipped = find_calibration(run.config, "training-free", digest)
    assert shipped is not None and shipped.model == network.title
    assert find_calibration(read_config(path, [*sizes, "model.stage=4"]), "training-free", digest) is None
    file = tmp_path / FILE
    file.write_text((SHIPPED / f"{other}_lite0.yaml").read_text())
    stale = read_config(path, [f"run.folder={tmp_path.parent}", f"run.name={tmp_path.name}"])
    assert find_calibration(stale, "training-free", digest) == shipped
    assert not caplog.records
    assert find_calibration(stale, "training-free", "other weights") is None
    file.write_text("calibration: sym-net-calibration/1\nweights: many\n")
    with pytest.raises(UserError, match=re.escape(str(file)) + ".*weights = 'many' must be"):
        find_calibration(stale, "training-free", digest)
