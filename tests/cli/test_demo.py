"""The demonstration in miniature: it ends with a table of five rows and a picture."""

from functools import partial
from pathlib import Path

import cv2
import pytest

from tests.outcome import run_script
from util.data import mini

pytestmark = pytest.mark.train

SHORT = {"data.size": 33, "data.min_pixels": 100, "meta_stage.epoch_length": 8, "test.episodes": 4}
SHORT |= {"base_stage.size": 33, "base_stage.epochs": 1, "base_stage.batch": 8, "base_stage.validate_episodes": 4}
SHORT |= {"meta_stage.epochs": 1, "meta_stage.batch": 4}


def test_the_demo_ends_with_a_table_and_a_picture(tmp_path: Path, capfd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(mini, "generate", partial(mini.generate, images_train=48, images_test=32, side=64))
    options = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    done = run_script("demo.py", ("--folder", tmp_path / "demo", *options), capfd, monkeypatch)
    assert done.code == 0, done.errors
    table = [line for line in done.output.splitlines() if line.startswith("| ")]
    names = ("Sym-Net+ ", "Sym-Net+, meta", "untrained Sym-Net+", "prototype baseline", "everything foreground")
    for name in names:
        assert sum(line.startswith(f"| {name}") for line in table) == 1, name
    picture = cv2.imread(str(tmp_path / "demo" / "demo.png"))
    assert picture is not None and picture.std() > 10
    assert sum(line.startswith("python predict.py --checkpoint ") for line in done.output.splitlines()) == 1
    assert len(list((tmp_path / "demo" / "predicted").glob("*_overlay.jpg"))) == 1
