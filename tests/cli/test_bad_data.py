"""Tests of bad data and settings as a user meets them: exit code 2, one line that names the culprit, no result."""

import re
from pathlib import Path

import pytest

from tests import spawned
from util.data.images.read import read_image
from util.errors import UserError

PROTOTYPE = "mini_split0_prototype_resnet10.yaml"
MODEL = {"encoder": {"backbone": "resnet18", "stem": "plain", "weights": None}}
QUICK = {"checkpoint": "none", "episodes": 4, "seeds": [0], "pictures": 0}


@pytest.mark.process
def test_output_folder_that_is_a_file(mini_yaml, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    config = mini_yaml(PROTOTYPE, run={"folder": str(tmp_path / "taken")}, model=MODEL, test=QUICK)
    run = spawned.run("test.py", config, check=2)
    lines = [line for line in re.split(r"[\r\n]", run.stderr) if "error:" in line]
    assert len(lines) == 1 and "Traceback" not in run.stdout + run.stderr, run.stderr
    assert lines[0].startswith(f"error: {tmp_path / 'taken'}") and "run.folder" in lines[0]
    assert (tmp_path / "taken").read_text() == "a file"


@pytest.mark.parametrize("damage", ["empty", "rubbish", "header only", "first half", "last bytes lost"])
def test_damaged_photo_is_refused(mini_root: Path, tmp_path: Path, damage: str) -> None:
    whole = next((mini_root / "JPEGImages").iterdir()).read_bytes()
    contents = {
        "empty": b"",
        "rubbish": b"no picture" * 50,
        "header only": whole[:160],
        "last bytes lost": whole[:-100],
    }
    path = tmp_path / "photo.jpg"
    path.write_bytes(contents.get(damage, whole[: len(whole) // 2]))
    with pytest.raises(UserError, match=re.escape(str(path))):
        read_image(path)
