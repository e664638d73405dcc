"""Only commands change their process: allocator, environment, logging; no import does."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.paths import REPOSITORY
from util.cli import HUGE_PAGES

pytestmark = pytest.mark.process

THIRD_PARTY = {"TORCHINDUCTOR_CACHE_DIR", "CRC32C_SW_MODE"}  # set by imports of torch and tensorboardX
CODE = """
import json, logging, os, resource, signal, sys
import cv2, torch

def state():
    handlers = [str(signal.getsignal(s)) for s in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)]
    threads = [cv2.getNumThreads(), torch.get_num_threads()]
    return [dict(os.environ), logging.raiseExceptions, logging.root.handlers, handlers, threads]

states = [state()]
import util.demo, util.launch.launch, util.predict, util.prepare.check, benchmark.__main__
from util.cli import configure_process
states.append(state())
configure_process()
states.append(state())
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)  # 64 MiB
fresh = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
configure_process(training=True)
again = []
for _ in range(4):
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24)
    again.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
print(json.dumps([*states, fresh, min(again[1:])]))  # another block may lie in the gap of the first
"""


@pytest.fixture(scope="module")
def states() -> list:
    """Return the state of a process before imports, after them and configured, and page faults of 64 MiB.

    These are the faults of the first such tensor, and in a training the fewest of three after another was freed.
    """
    own = {k: v for k, v in os.environ.items() if k not in (HUGE_PAGES, *THIRD_PARTY)}
    words, options = [sys.executable, "-c", CODE], {"cwd": REPOSITORY, "env": own, "capture_output": True, "text": True}
    return json.loads(subprocess.run(words, check=True, **options).stdout)


def test_imports_change_nothing(states: list) -> None:
    (environment, *before), (imported, *after), (configured, log_errors, *_), *_ = states
    assert after == before
    assert {k: v for k, v in imported.items() if k not in THIRD_PARTY} == environment
    assert log_errors is False and configured == {**imported, HUGE_PAGES: "1"}
