"""``--keep-base``: base and new classes in one mask, by a base stage's checkpoint or any with a base classifier."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from model.bcm import regression
from util.checkpoints import checkpoint
from util.data.images.read import read_mask
from util.predict import Segmenter


@pytest.mark.parametrize("model", ["", "pocket"], ids=["symnet", "pocket"])
def test_base_and_new_classes_share_a_mask(predict, make_checkpoint, model, marked, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(regression, "PENALTIES", [1.0])
    given, photo = make_checkpoint(model), marked["box"].rpartition(":")[0]
    supports = ("--support", f"cat={photo}:box=2,2,56,40")
    segmenter = Segmenter(given, supports[1:], keep_base=True)
    base, found, alone = [c.name for c in segmenter.classes[:-1]], segmenter(photo), segmenter.without_classes()(photo)
    assert len(base) == len(alone.probability) == 6 and (found.mask == 7).any() and alone.mask.max() <= 6
    if not model:  # its base stage is enough
        content = checkpoint.read(given)
        weights = {k: x for k, x in content["weights"].items() if k.startswith(("encoder.", "base_learner."))}
        checkpoint.save(given := tmp_path / "base.pth", {**content, "stage": "base", "weights": weights})
        assert "--keep-base" in predict("--checkpoint", given, *supports, "--query", photo, "--out", tmp_path).error
    words = ("--checkpoint", given, "--keep-base", "--query", photo, "--out", tmp_path / "out", *supports[:1])
    for other, word in (
        (f"{base[0].upper()}={photo}:box=2,2,9,9", "base"),
        (f"cat={photo}:box=2,2,9,9", "novel class 1: "),
    ):
        assert word in predict(*words, other).error
    assert "--output" in predict(*words, supports[1], "--output", "meta").error
    assert predict(*words, supports[1]).code == 0
    record = json.loads((tmp_path / "out" / "marked.json").read_text())
    assert [row["name"] for row in record["classes"]] == [*base, "cat"] and record["model"] == "BCM"
    assert np.array_equal(read_mask(tmp_path / "out" / "marked_mask.png"), found.mask)
