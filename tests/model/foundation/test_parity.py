"""FSS-SAM3 and GF-SAM give the numbers of the published code around tiny random networks."""

from pathlib import Path

import numpy as np
import pytest

from tests.parity.foundation import gfsam_case, require_transformers, sam3_case
from tests.paths import SHARED

CASES = {name: sorted((SHARED / "parity" / name).glob("*.npz")) for name in ("sam3", "gfsam")}


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return inputs and outputs of a case, masks unpacked to flat arrays."""
    with np.load(path) as stored:
        arrays = dict(stored)
    inputs = {key.removeprefix("in_"): x for key, x in arrays.items() if key.startswith("in_")}
    return inputs, {key: x for key, x in arrays.items() if not key.startswith("in_")}


def agreement(given: np.ndarray, packed: np.ndarray) -> float:
    return float((np.unpackbits(packed)[: given.size].astype(bool) == given.ravel().astype(bool)).mean())


@pytest.mark.parity
@pytest.mark.parametrize("path", CASES["sam3"], ids=lambda path: path.stem)
def test_sam3_case(shared: Path, path: Path) -> None:
    require_transformers()
    inputs, want = read(path)
    given = sam3_case(inputs)
    step = 8 if int(inputs["canvas"]) == 1008 else 4
    np.testing.assert_array_equal(given["canvas"][::8, ::8], want["canvas"])
    np.testing.assert_allclose(given["norm_boxes"], want["norm_boxes"], atol=1e-6)
    if "boxes" in want:
        np.testing.assert_array_equal(given["boxes"], want["boxes"])
    for name in ("scores", "presence"):
        np.testing.assert_allclose(given[name], want[name], atol=1e-4)
    np.testing.assert_array_equal(given["kept"], want["kept"])
    np.testing.assert_allclose(given["pred_masks"][:, ::step, ::step], want["pred_masks"], atol=5e-3)
    assert agreement(given["union"], want["union"]) > 0.998
    assert agreement(given["mask"], want["mask"]) > 0.995


@pytest.mark.parity
@pytest.mark.parametrize("path", CASES["gfsam"], ids=lambda path: path.stem)
def test_gfsam_case(shared: Path, path: Path) -> None:
    require_transformers()
    inputs, want = read(path)
    given = gfsam_case(inputs)
    for name in ("pos_max", "pos_mean", "neg_mean", "filtered"):
        np.testing.assert_allclose(given[name], want[name], atol=1e-4)
    for name in ("points", "prompts", "components"):
        np.testing.assert_array_equal(given[name], want[name])
    for name in ("foreground", "state"):
        assert (given[name] != want[name]).mean() <= 0.02
    assert np.abs(given["areas"] - want["areas"]).max() <= 0.002 * int(inputs["side"]) ** 2
    assert agreement(given["mask"], want["mask"]) > 0.995


def test_cases_are_there(shared: Path) -> None:
    assert len(CASES["sam3"]) >= 6 and len(CASES["gfsam"]) >= 7
