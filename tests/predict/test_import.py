"""``from util.predict import Segmenter`` changes nothing in the process, so notebooks and services can use it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY

pytestmark = pytest.mark.process

BEFORE = """
import ctypes, logging, os, random, resource, signal, sys, threading, warnings
import cv2, numpy, torch, torchvision, tqdm, yaml
from PIL import Image

called = []
find = ctypes.CDLL.__getattr__
ctypes.CDLL.__getattr__ = lambda library, name: called.append(name) or find(library, name)

def state():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "logging": (logging.raiseExceptions, logging.root.level, list(logging.root.handlers)),
        "excepthook": (sys.excepthook, threading.excepthook),
        "torch threads": torch.get_num_threads(),
        "torch random": torch.random.get_rng_state().sum().item(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "cv2 threads": cv2.getNumThreads(),
        "largest image": Image.MAX_IMAGE_PIXELS,
        "threads": threading.active_count(),
        "limits": resource.getrlimit(resource.RLIMIT_NOFILE),
        "random": random.getstate(),
    }

before = state()
"""
AFTER = """
changed = [name for name, value in state().items() if value != before[name]]
assert not changed, changed
"""


def test_the_import_changes_nothing_in_the_process() -> None:
    unneeded = ("gradio", "util.cli", "util.predict.options", "util.page")
    code = (
        f"{BEFORE}from util.predict import Segmenter\n{AFTER}"
        f"assert not {{*{unneeded!r}}} & {{*sys.modules}}\n"
        "assert 'mallopt' not in called, 'the import changes the allocator'\n"
    )
    environment = {"PATH": os.environ["PATH"]}  # without the variables that the tests' own process has set
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
