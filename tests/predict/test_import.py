"""``from util.predict import Segmenter`` loads nothing that notebooks and services do not need."""

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
"""


def test_the_import_of_the_segmenter_is_lean() -> None:
    words, options = [sys.executable, "-c", CODE], {"cwd": REPOSITORY, "capture_output": True, "text": True}
    done = subprocess.run(words, env={"PATH": os.environ["PATH"]}, **options)
    assert done.returncode == 0, done.stderr
