"""The demonstration in miniature: it ends with a table of five rows and a picture."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2

REPOSITORY = Path(__file__).resolve().parents[2]
SHORT = {
    "data.size": 33,
    "base_stage.size": 33,
    "base_stage.epochs": 1,
    "base_stage.batch": 128,
    "base_stage.validate_episodes": 4,
    "meta_stage.epochs": 1,
    "meta_stage.batch": 64,
    "test.episodes": 8,
}


def test_the_demo_ends_with_a_table_and_a_picture(tmp_path: Path):
    options = [word for key, value in SHORT.items() for word in ("--set", f"{key}={value}")]
    done = subprocess.run(
        [sys.executable, "demo.py", "--folder", str(tmp_path / "demo"), *options],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = [line for line in done.stdout.splitlines() if line.startswith("| ")]
    names = ("Sym-Net ", "Sym-Net, meta", "untrained Sym-Net", "prototype baseline", "everything foreground")
    for name in names:
        assert sum(line.startswith(f"| {name}") for line in table) == 1, name
    picture = cv2.imread(str(tmp_path / "demo" / "demo.png"))
    assert picture is not None and picture.std() > 10
    assert sum(line.startswith("python predict.py --checkpoint ") for line in done.stdout.splitlines()) == 1
    assert len(list((tmp_path / "demo" / "predicted").iterdir())) == 4
