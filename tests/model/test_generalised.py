"""BCM and DIaM: the measured cases, and what they leave open, on drawn features."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from model.bcm import regression
from model.bcm.regression import fit, stratified_folds
from model.mismatch import Mismatch
from model.registry import every_model
from tests.model.small import task_of
from tests.narrow import NARROW
from tests.parity_case import gfss_case

BASE, NOVEL, CHANNELS, GRID, SIDE = 3, 2, 8, 8, 33


@pytest.mark.parity
@pytest.mark.parametrize("stem", ["bcm_1shot", "diam_5shot_padded"])
def test_a_measured_case_is_reproduced(shared, stem: str) -> None:
    with np.load(shared / "parity/gfss" / f"{stem}.npz") as file:
        case = dict(file)
    want = {key: x for key, x in case.items() if not key.startswith(("in_", "iterations"))}
    found = gfss_case(stem.partition("_")[0], {key[3:]: x for key, x in case.items() if key.startswith("in_")})
    assert {key: x.shape for key, x in found.items()} == {key: x.shape for key, x in want.items()}
    near = {"scores_0": 1e-2, "prob_0_0": 4e-3, "losses": 2e-5, "weight": 2e-5, "bias": 2e-5, "probability": 2e-5}
    for key, x in want.items():
        known = slice(None, 6) if key.startswith("scores") else slice(None)  # the rest depend on rounding
        apart = abs(found[key][..., known].astype(float) - x[..., known])
        assert (apart > 0).mean() < 1e-3 if "prediction" in key else apart.max() <= near.get(key, 1e-5), key


def drawn(shots: int = 3) -> dict[str, np.ndarray]:
    """Return a case: squares of two novel classes, each partly like a base class."""
    random = np.random.default_rng(shots)
    means = random.normal(size=(1 + BASE + NOVEL, CHANNELS)) * 2
    labels = np.zeros((NOVEL, shots, SIDE, SIDE), np.uint8)
    for j in range(NOVEL):
        labels[j, :, 5:18, 6 + j : 20] = 1 + BASE + j
    rows = np.arange(GRID) * SIDE // GRID
    true = labels[..., rows[:, None], rows]
    features = (means[true] + random.normal(size=(*true.shape, CHANNELS))).clip(0)
    query = (means[random.integers(0, len(means), (2, GRID, GRID))]).clip(0)
    return {
        "base_weight": means[: BASE + 1].astype(np.float32),
        "base_bias": np.zeros(BASE + 1, np.float32),
        "support_features": np.moveaxis(features, -1, 2).astype(np.float16),
        "support_labels": labels,
        "query_features": np.moveaxis(query, -1, 1).astype(np.float16),
        "query_valid": np.ones((2, SIDE, SIDE), np.uint8),
        "top_k": np.array(1),
        "iterations": np.array(20),
    }


@pytest.fixture
def one_penalty(monkeypatch) -> None:
    """Let regressions choose among one value: nine tenths of their time."""
    monkeypatch.setattr(regression, "PENALTIES", [1.0])


def test_what_supports_lack_is_left_out(one_penalty) -> None:
    case, own = drawn(), BASE + 1
    joint = gfss_case("bcm", case)
    ks = {key for key in joint if key.startswith("chosen")}
    assert all(len(joint[k]) == 4 for k in ks) and (joint["prediction"] >= own).any()
    every = gfss_case("bcm", {**case, "top_k": np.array(-1)})
    assert np.array_equal(every["table"], every["counts"] > 0)
    for change, name in ((lambda y: y[0].fill(0), "no cell"), (lambda y: y.fill(255), "nothing known")):
        change((changed := {**case, "support_labels": case["support_labels"].copy()})["support_labels"])
        bcm, diam = gfss_case("bcm", changed)["prediction"], gfss_case("diam", changed)
        assert not (bcm == own).any() and not (diam["prediction"] == own).any(), name
        assert np.isfinite(diam["probability"]).all()
    few = case["support_labels"].copy()
    few[0, 1:] = 0  # two shots without the class
    few[0, 0][few[0, 0] > 0] = np.where(np.arange((few[0, 0] > 0).sum()) < 60, own, 0)  # the object's first rows alone
    assert 0 < gfss_case("bcm", {**case, "support_labels": few})["counts"][:, 0].sum() < 8


def test_a_batch_of_queries_gives_what_each_gives(one_penalty) -> None:
    case = drawn()
    for name in ("bcm", "diam"):
        both = gfss_case(name, case)["prediction"]
        for item in range(2):
            alone = {k: v[item : item + 1] if k.startswith("query") else v for k, v in case.items()}
            assert np.array_equal(gfss_case(name, alone)["prediction"][0], both[item])


def test_the_regression_is_at_the_minimum_and_folds_share_every_target() -> None:
    random = np.random.default_rng(0)
    x, y = random.random((300, 5), np.float32), random.integers(0, 3, 300)
    folds = stratified_folds(y)
    counts = [np.bincount(y[folds == fold], minlength=3) for fold in range(5)]
    assert np.ptp(counts, axis=0).max() <= 1
    head = fit(x, y, c := 10.0)
    logits = torch.from_numpy(x) @ head.weight.T + head.bias
    error = (logits.softmax(1) - torch.eye(3)[y]) / len(x)
    assert (error.T @ torch.from_numpy(x) + head.weight / (c * len(x))).abs().max() < 1e-3


@pytest.mark.parametrize("name", ["bcm", "diam"])
def test_unfit_supports_are_refused_in_a_line(one_penalty, name: str) -> None:
    cls = every_model()[name]
    settings = cls.Settings()
    settings.encoder.backbone, settings.encoder.stem = NARROW, "plain"
    network = cls(settings, task_of("bam", 1, 33)).eval()
    photos, labels = (
        torch.rand(2, 33, 33, 3).permute(0, 3, 1, 2)[None] * 255,
        torch.zeros(1, 2, 33, 33, dtype=torch.uint8),
    )
    own = len(network.base.bias)
    for change, word in ((lambda y: y, "covers no cell"), (lambda y: y[:, :, :1, :1].fill_(own), "2 cells")):
        change(labels)
        with pytest.raises(Mismatch, match=f"novel class 1: .*{word}"):
            network.fit(photos, labels)
    labels[:, :, :16] = own
    logits = network.predict(photos[0], torch.ones(2, 33, 33, dtype=torch.bool), network.fit(photos, labels))
    assert logits.shape == (2, own + 1, 33, 33) and logits.isfinite().all()
