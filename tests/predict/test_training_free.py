"""Methods without a checkpoint on photos: the one that needs no option, any number of supports, and refused exports."""

import json
from pathlib import Path

import numpy as np
import pytest

from model.common.training_free import OnCells
from model.registry import models
from tests.paths import REPOSITORY
from tests.predict.conftest import BOX
from util.config.read import read_config
from util.predict import Segmenter
from util.predict.load_model import SHIPPED

SETTINGS = ("model.stage=3", "model.encoder.output_stride=8")
ON_CELLS = sorted(name for name, cls in models().items() if issubclass(cls, OnCells))
EASY = {"insid3": ("model.tau=0.95",)}  # features of random weights are all alike


@pytest.mark.parametrize("model", ON_CELLS)
def test_photos_are_segmented_alone_and_in_batches(model_yaml, model: str, marked: dict, photos: list[Path]) -> None:
    supports = [marked["box"]] * 3
    segmenter = Segmenter(config=model_yaml(model), supports=supports, overrides=[*SETTINGS, *EASY.get(model, ())])
    support = marked["box"].rpartition(":")[0]
    together = list(segmenter.many([support, *photos], batch=3))
    for photo, found in zip([support, *photos], together, strict=True):
        assert np.array_equal(segmenter(photo).mask, found.mask)
    x0, y0, x1, y1 = BOX
    inside = together[0].mask[y0:y1, x0:x1]  # the support as its own query
    assert inside.mean() > together[0].mask.mean() > 0


def test_without_a_model_the_shipped_weights_are_taken_and_a_line_says_so(
    predict, marked: dict, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    small = ("--support", marked["box"], "--resize", 97, "--device", "cpu")
    line, *_ = predict(*small, "--query", photos[0], "--out", "found").output.splitlines()
    assert line.startswith("no --checkpoint: takes Pocket on timm/tf_efficientnet_lite0, trained on the 20 classes")
    config = line.rpartition("--config ")[2]
    assert "insid3" in config and read_config(REPOSITORY / config)
    config = config.replace("insid3", "prototype")
    done = predict(*small[:2], "--device", "cpu", "--config", config, "--query", photos[0], "--out", "other")
    assert done.code == 0, done.errors  # this project's configs are found from every folder
    record = json.loads(Path("found", photos[0].stem + ".json").read_text())
    assert (Path(record["checkpoint"]).name, record["settings"]["name"]) == (SHIPPED.name, "pocket")
