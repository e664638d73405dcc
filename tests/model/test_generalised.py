"""BCM and DIaM: a measured case of each, and what those leave open, on drawn features."""

import functools

import numpy as np
import pytest
import torch

from model.bcm import regression
from model.bcm.bcm import BCM
from model.encoders.settings import EncoderSettings
from model.episode import IGNORE
from model.mismatch import ModelMismatch
from tests.helpers.close import same_pixels
from tests.helpers.narrow import NARROW
from tests.model.small import task_of
from tests.parity.case import gfss_case

BASE, NOVEL, CHANNELS, GRID, SIDE = 3, 2, 8, 8, 33
FIRST_NOVEL = BASE + 1  # channel
NEAR = {"scores_0": 1e-2, "prob_0_0": 4e-3, "losses": 2e-5, "weight": 2e-5, "bias": 2e-5, "probability": 2e-5}


@pytest.fixture
def one_penalty(monkeypatch) -> None:
    """Let regressions choose among one value: a tenth of their time."""
    monkeypatch.setattr(regression, "PENALTIES", [1.0])


@pytest.mark.parity
@pytest.mark.parametrize("stem", ["bcm_1shot", "diam_5shot_padded"])
def test_a_measured_case_is_reproduced(shared, stem: str) -> None:
    with np.load(shared / "parity/gfss" / f"{stem}.npz") as file:
        case = dict(file)
    inputs = {key.removeprefix("in_"): x for key, x in case.items() if key.startswith("in_")}
    want = {key: x for key, x in case.items() if not key.startswith(("in_", "iterations"))}
    found = gfss_case(stem.partition("_")[0], inputs)
    assert {key: x.shape for key, x in found.items()} == {key: x.shape for key, x in want.items()}
    for key, x in want.items():
        known = slice(6 if key.startswith("scores") else None)  # the rest depend on rounding
        apart = abs(found[key][..., known].astype(float) - x[..., known])
        if "prediction" in key:
            assert (apart > 0).mean() < 1e-3, key
        else:
            assert apart.max() <= NEAR.get(key, 1e-5), key


def drawn(shots: int = 3) -> dict[str, np.ndarray]:
    """Return a case: rectangles of two novel classes."""
    random = np.random.default_rng(0)
    rows = np.arange(GRID) * SIDE // GRID  # of the cells, and columns
    means = random.normal(size=(1 + BASE + NOVEL, CHANNELS)) * 2
    labels = np.zeros((NOVEL, shots, SIDE, SIDE), np.uint8)
    labels[0, :, 5:18, 6:20] = FIRST_NOVEL
    labels[1, :, 5:18, 7:20] = FIRST_NOVEL + 1
    noise = random.normal(size=(NOVEL, shots, GRID, GRID, CHANNELS))
    support = means[labels[..., rows[:, None], rows]] + noise
    query = means[random.integers(0, len(means), (2, GRID, GRID))]
    return {
        "base_weight": means[:FIRST_NOVEL].astype(np.float32),
        "base_bias": np.zeros(FIRST_NOVEL, np.float32),
        "support_features": np.moveaxis(support.clip(0), -1, 2),
        "support_labels": labels,
        "query_features": np.moveaxis(query.clip(0), -1, 1),
        "query_valid": np.ones((2, SIDE, SIDE), np.uint8),
        "top_k": np.array(1),
        "iterations": np.array(20),
    }


@functools.cache
def numbers_of_drawn(name: str) -> dict[str, np.ndarray]:
    """Return the numbers of the drawn case; for tests with ``one_penalty``."""
    return gfss_case(name, drawn())


@pytest.mark.parametrize("name", ["bcm", "diam"])
def test_a_batch_is_its_items_and_a_class_without_cells_is_never_predicted(one_penalty, name: str) -> None:
    case = drawn()
    prediction = numbers_of_drawn(name)["prediction"]
    assert FIRST_NOVEL in prediction
    second = {key: x[1:] if key.startswith("query") else x for key, x in case.items()}
    assert same_pixels(gfss_case(name, second)["prediction"][0], prediction[1])
    absent = case["support_labels"].copy()
    absent[0] = 0
    unknown = np.full_like(absent, IGNORE)
    for labels in (absent, unknown):
        changed = {**case, "support_labels": labels}
        assert FIRST_NOVEL not in gfss_case(name, changed)["prediction"]


def test_regressions_vote_over_shots_that_know_a_class(one_penalty) -> None:
    case = drawn()
    found = numbers_of_drawn("bcm")
    assert {len(x) for key, x in found.items() if key.startswith("chosen")} == {4}  # three shots, and all
    every = gfss_case("bcm", {**case, "top_k": np.array(-1)})
    assert np.array_equal(every["table"], every["counts"] > 0)
    few = case["support_labels"].copy()
    few[0, 1:] = 0  # two shots without the class
    few[0, 0, 9:] = 0  # three cells in the other
    assert gfss_case("bcm", {**case, "support_labels": few})["counts"][:, 0].sum() == 3


def test_unfit_supports_are_refused_in_a_line(one_penalty) -> None:
    settings = BCM.Settings(EncoderSettings(NARROW, "plain"))
    network = BCM(settings, task_of("bam", 1, 33)).eval()
    photos = 255 * torch.rand(1, 2, 3, 33, 33)
    labels = torch.zeros(1, 2, 33, 33, dtype=torch.uint8)
    first_novel = len(network.base.bias)
    for cells, message in ((0, "support 1 covers no cell"), (1, "supports cover 2 cell")):
        labels[:, :, :cells, :cells] = first_novel
        with pytest.raises(ModelMismatch, match=f"^cup: {message}"):
            network.fit([network.encode(photos[0], labels[0])], ["cup"])
    labels[:, :, :16] = first_novel
    state = network.fit([network.encode(photos[0], labels[0])], ["cup"])
    logits = network.segment(photos[0], torch.ones(2, 33, 33, dtype=torch.bool), state)
    assert logits.shape == (2, first_novel + 1, 33, 33)
    assert logits.isfinite().all()
