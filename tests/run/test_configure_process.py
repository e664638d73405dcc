"""Only commands change their process: allocator, environment, logging; no import does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY
from util.cli import HUGE_PAGES

THIRD_PARTY = {"TORCHINDUCTOR_CACHE_DIR", "CRC32C_SW_MODE"}  # set by imports of torch and tensorboardX
CODE = """
import json, logging, os, signal
import cv2, torch

def state():
    handlers = [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    threads = [cv2.getNumThreads(), torch.get_num_threads()]
    return [dict(os.environ), logging.raiseExceptions, logging.root.handlers, handlers, threads]

states = [state()]
import util.launch.launch, util.predict, util.prepare.check, benchmark
from util.cli import configure_process
states.append(state())
configure_process()
print(json.dumps([*states, state()]))
"""


@pytest.mark.process
def test_imports_change_nothing() -> None:
    own = {k: v for k, v in os.environ.items() if k not in (HUGE_PAGES, *THIRD_PARTY)}
    words, options = [sys.executable, "-c", CODE], {"cwd": REPOSITORY, "env": own, "capture_output": True, "text": True}
    states = json.loads(subprocess.run(words, check=True, **options).stdout)
    (environment, *before), (imported, *after), (configured, log_errors, *_) = states
    assert after == before
    assert {k: v for k, v in imported.items() if k not in THIRD_PARTY} == environment
    assert log_errors is False and configured == {**imported, HUGE_PAGES: "1"}
