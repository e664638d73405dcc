"""Published folders: the same weights, config and predictions."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from photos import Segmenter
from photos.calibration import FILE, FORMAT, Calibration, key_of
from util.config.read import from_dict, read_config, to_dict
from util.weights import checkpoint


@pytest.fixture
def weights(make_checkpoint, tmp_path: Path) -> Path:
    """Return a copy of a checkpoint, beside which a test may write."""
    return Path(shutil.copy(make_checkpoint(), tmp_path / "weights.pth"))


def test_a_published_folder_is_the_checkpoint(predict, weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "published"
    words = ("share", "--checkpoint", weights, "--out", folder)
    assert predict(*words).code == 0
    before, after = checkpoint.read(weights).entries, Segmenter(checkpoint=folder, device="cpu").engine
    assert checkpoint.digest_of(before["weights"]) == after.digest
    config = read_config(folder / "config.json")
    assert to_dict(config) == to_dict(from_dict(before["config"], "weights"))
    facts, text = (folder / "README.md").read_text().removeprefix("---\n").split("---\n", 1)
    assert yaml.safe_load(facts)["datasets"] == [config.data.name]
    assert "train.py FOLDER/config.json" in text
    assert str(folder) in predict(*words).error


def test_the_calibration_is_shared(predict, weights: Path, tmp_path: Path) -> None:
    content = checkpoint.read(weights).entries
    key = key_of(from_dict(content["config"], "weights"), checkpoint.digest_of(content["weights"]))
    calibration = Calibration(FORMAT, "x", key, "x", 1.0, 0.0, [1.0] + [0.0] * 5, 0.0, 0.5)
    (tmp_path / FILE).write_text(yaml.safe_dump(asdict(calibration), sort_keys=False))
    assert predict("share", "--checkpoint", weights, "--out", f"{tmp_path}/shared").code == 0
    assert Segmenter(checkpoint=tmp_path / "shared", device="cpu").calibration == calibration
