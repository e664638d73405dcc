"""``from util.predict import Segmenter`` and a config load nothing that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

pytestmark = pytest.mark.process

UNNEEDED = {"gradio", "util.cli", "util.predict.options", "util.page"}
CODE = f"""
import ctypes, sys, cv2, torch
called = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda library, name: called.append(name) or find(library, name)
from util.predict import Segmenter
assert not {UNNEEDED!r} & {{*sys.modules}}
assert "mallopt" not in called, "the import changes the allocator"
from util.config.read import read_config
read_config("config/pascal/pascal_split0_ssp_resnet50.yaml")
assert "timm" not in sys.modules, "timm takes seconds"
"""


def test_the_import_of_the_segmenter_is_lean() -> None:
    words, options = [sys.executable, "-c", CODE], {"cwd": REPOSITORY, "capture_output": True, "text": True}
    done = subprocess.run(words, env={"PATH": os.environ["PATH"]}, **options)
    assert done.returncode == 0, done.stderr
