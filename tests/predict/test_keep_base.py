"""``--keep-base``: base and new classes in one mask, by a base stage's checkpoint or any with a base classifier."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bcm import regression
from tests.predict.conftest import HEIGHT, WIDTH
from util.checkpoints import checkpoint
from util.data.images.read import read_mask
from util.evaluate.calibration import FORMAT, MARGIN_NUMBERS, Calibration
from util.predict import Segmenter, drop_doubtful
from util.predict.prediction import Decision


@pytest.mark.parametrize("model", ["", "pocket"], ids=["symnet", "pocket"])
def test_base_and_new_classes_share_a_mask(predict, make_checkpoint, model, marked, tmp_path: Path):
    """The new class is where the network finds it alone, but in base classes' pixels only by its presence score."""
    given, photo = make_checkpoint(model), marked["box"].rpartition(":")[0]
    text = f"cat={photo}:scribble=9,9;50,9;50,30;9,30"
    rule = Decision(refine=False)  # random masks are specks
    segmenter, plain = (Segmenter(given, [text], keep_base=keep, decision=rule) for keep in (True, False))
    share = plain(photo).probability[0]
    shift = torch.tensor([float(np.median(np.log(share / (1 - share)))), 0.0])[:, None, None]
    for one in (segmenter, plain):  # random weights find something
        one.model.network.register_forward_hook(lambda _, __, output: replace(output, logits=output.logits + shift))
    base, found = [known.name for known in segmenter.classes[:-1]], segmenter(photo)
    alone, new = segmenter.without_classes()(photo), plain(photo).mask == 1
    assert len(base) == len(alone.probability) == 6 and new.any() and (alone.mask > 0).any()
    assert np.array_equal(found.mask, np.where(new & (alone.mask == 0), 7, alone.mask)) and found.presence is None
    numbers = [0.0] * (MARGIN_NUMBERS + 6)  # scores hide new classes alone
    segmenter.calibration = known = Calibration(FORMAT, "", "", "", 2.0, 1.0, numbers, -9.0, 0.5)
    assert np.array_equal(segmenter.without_classes()(photo).mask, alone.mask)  # there is no score without a new class
    hidden, segmenter.calibration = segmenter(photo), replace(known, bias=99.0)
    assert np.array_equal(segmenter(photo).mask, np.where(new, 7, alone.mask))
    assert np.array_equal(hidden.mask, alone.mask) and hidden.probability[:6].max() > 0.1
    assert hidden.shown == [True] * 6 + [False]
    words = ("--checkpoint", given, "--keep-base", "--query", photo, "--out", tmp_path / "out", "--support")
    assert "base" in predict(*words, f"{base[0].upper()}={photo}:box=2,2,9,9").error
    assert predict(*words, text).code == 0
    record = json.loads((tmp_path / "out" / "marked.json").read_text())
    assert [row["name"] for row in record["classes"]] == [*base, "cat"]


def test_a_base_stage_is_enough(predict, make_checkpoint, marked, tmp_path: Path, monkeypatch):
    """BCM fits the new classes, which need cells enough."""
    monkeypatch.setattr(regression, "PENALTIES", [1.0])
    content, photo = checkpoint.read(make_checkpoint("")), marked["box"].rpartition(":")[0]
    weights = {k: x for k, x in content["weights"].items() if k.startswith(("encoder.", "base_learner."))}
    checkpoint.save(given := tmp_path / "base.pth", {**content, "stage": "base", "weights": weights})
    words, text = ("--checkpoint", given, "--query", photo, "--out", tmp_path / "out", "--support"), f"cat={photo}:box="
    assert "--keep-base" in predict(*words, f"{text}2,2,56,40").error
    words = ("--keep-base", *words)
    assert "cat: " in predict(*words, f"{text}2,2,9,9").error
    assert "--output" in predict(*words, f"{text}2,2,56,40", "--output", "meta").error
    assert predict(*words, f"{text}2,2,56,40").code == 0
    record = json.loads((tmp_path / "out" / "marked.json").read_text())
    assert record["model"] == "BCM" and len(record["classes"]) == 7
    assert (read_mask(tmp_path / "out" / "marked_mask.png") == 7).any()
    encoder = {"encoder": content["config"]["model"]["encoder"]}  # DIaM is fitted to every photo
    data, test = {**content["config"]["data"], "text": "none"}, {**content["config"]["test"], "protocol": "gfss"}
    config = {**content["config"], "model": {"name": "diam", **encoder}, "data": data, "test": test}
    checkpoint.save(given, {**content, "config": config, "weights": weights})
    assert predict(*words, f"{text}2,2,56,40", "--overwrite").code == 0
    assert json.loads((tmp_path / "out" / "marked.json").read_text())["model"] == "DIaM"


def test_a_material_is_found_beside_base_classes(make_checkpoint, marked):
    photo = marked["box"].rpartition(":")[0]
    floor = [f"floor={photo}:box=0,{HEIGHT // 2},{WIDTH - 1},{HEIGHT - 1}"]
    plain, beside = (Segmenter(make_checkpoint("pocket"), floor, keep_base=kept) for kept in (False, True))
    new, chosen = drop_doubtful(plain)(photo).mask == 1, drop_doubtful(beside)
    assert new.any() and chosen.adaptation == {"method": "linear probe"}
    alone = beside.without_classes()(photo).mask
    assert np.array_equal(chosen(photo).mask, np.where(new & (alone == 0), 7, alone))
