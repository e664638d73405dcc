"""``from util.predict import Segmenter`` and a config load nothing that is not needed; it works in every folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPOSITORY

pytestmark = pytest.mark.process

UNNEEDED = {"util.cli", "util.predict.options", "util.page"}
CODE = f"""
import ctypes, sys, cv2, torch
called = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda library, name: called.append(name) or find(library, name)
from util.predict import Segmenter
assert not {UNNEEDED!r} & {{*sys.modules}}
assert "mallopt" not in called, "the import changes the allocator"
from util.config.read import read_config
read_config("{REPOSITORY}/config/pascal/pascal_split0_ssp_resnet50.yaml")
assert "timm" not in sys.modules, "timm takes seconds"
photo = 255 * torch.eye(64, dtype=torch.uint8).expand(3, 64, 64)
segmenter = Segmenter(None, {{"line": [(photo, photo[0])]}}, config="config/pascal/pascal_split0_prototype_lite0.yaml")
segmenter(photo).save("results", "line.1")
"""


def test_a_segmenter_in_another_folder(tmp_path: Path) -> None:
    words, options = [sys.executable, "-c", CODE], {"cwd": tmp_path, "capture_output": True, "text": True}
    done = subprocess.run(words, env={"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}, **options)
    assert done.returncode == 0 and done.stdout == done.stderr == "", done.stderr
    assert (tmp_path / "results" / "line.1_mask.png").is_file()
