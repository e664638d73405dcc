"""A script of the project run as a user types it, within this process, and how it ended."""

import runpy
import sys
from dataclasses import dataclass

import pytest

from tests.helpers.paths import REPOSITORY


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The one error line; fails if there is another number of them or a traceback."""
        assert "Traceback" not in self.errors, self.errors
        lines = [line for line in self.errors.replace("\r", "\n").split("\n") if line.startswith("error: ")]
        assert len(lines) == 1, self.errors
        assert self.code == 2
        return lines[0]


def run_script(
    name: str,
    arguments: tuple[object, ...],
    capfd: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> Outcome:
    """Run a script of the project with arguments."""
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    capfd.readouterr()
    with pytest.raises(SystemExit) as caught:
        runpy.run_path(str(REPOSITORY / name), run_name="__main__")
    return Outcome(int(caught.value.code), *capfd.readouterr())
