"""Large tensors lie in large pages, so that their memory is there in a few faults."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPOSITORY

PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
CODE = """
import resource, torch
import util.engine.testing, util.engine.training, util.predict.command, util.prepare.check
from util.engine.configure_process import configure_process
configure_process()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.ones(2**24)  # 64 MiB
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not PAGES.exists() or "[never]" in PAGES.read_text(), reason="this system has no large pages")
def test_a_large_tensor_takes_few_page_faults() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 2**24 * 4 / 4096 / 4  # a quarter of its ordinary pages
