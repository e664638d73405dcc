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
def test_base_and_new_classes_share_a_mask(
    predict, make_checkpoint, model: str, marked: dict, photos: list[Path], tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(regression, "PENALTIES", [1.0])
    given, photo = make_checkpoint(model), marked["box"].rpartition(":")[0]
    supports = ("--support", f"cat={photo}:box=2,2,56,40")
    segmenter = Segmenter(given, supports[1:], keep_base=True)
    base, found = [known.name for known in segmenter.classes[:-1]], segmenter(photo)
    assert len(base) == 6 and (found.mask == 7).any()
    alone = segmenter.without_classes()(photo)
    assert len(alone.probability) == 6 and set(np.unique(alone.mask)) <= set(range(7))
    if not model:  # its base stage is enough
        content = checkpoint.read(given)
        weights = {k: x for k, x in content["weights"].items() if k.startswith(("encoder.", "base_learner."))}
        checkpoint.save(given := tmp_path / "base.pth", {**content, "stage": "base", "weights": weights})
        assert "--keep-base" in predict("--checkpoint", given, *supports, "--query", photo, "--out", tmp_path).error
    words = ("--checkpoint", given, "--keep-base", "--query", photo, "--out", tmp_path / "out")
    for other, word in (("--support", f"{base[0].upper()}={photo}:box=2,2,9,9"), "base"), (("--adapt",), "--adapt"):
        assert word in predict(*words, *supports, *other).error
    assert "novel class 1: " in predict(*words, "--support", f"cat={photo}:box=2,2,9,9").error
    assert predict(*words, *supports).code == 0
    record = json.loads((tmp_path / "out" / "marked.json").read_text())
    assert [row["name"] for row in record["classes"]] == [*base, "cat"] and record["model"] == "BCM"
    assert np.array_equal(read_mask(tmp_path / "out" / "marked_mask.png"), found.mask)
