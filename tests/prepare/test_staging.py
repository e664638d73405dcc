"""Folders that are made aside: one command at a time makes one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.paths import REPOSITORY
from util.errors import UserError
from util.prepare.staging import alone

HOLD = """
import sys
from pathlib import Path
from util.prepare.staging import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.process
def test_a_second_command_for_the_same_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = [sys.executable, "-c", HOLD, str(out)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as other:
        assert other.stdout and other.stdout.readline()
        with pytest.raises(UserError, match="another command is making it"), alone(out):
            pass
        with alone(tmp_path / "else"):
            pass
        other.communicate()
    with alone(out):
        assert not list(tmp_path.iterdir())
