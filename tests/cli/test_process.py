"""Commands in odd processes: an output that nobody reads, without room or without a letter; errors of no file."""

import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import pytest

from util import cli
from util.errors import EXIT_UNREAD, EXIT_USER_ERROR


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture):
    """Return a function that runs a command with an output, and gives exit code and errors."""

    def run(command: Callable[[], object], output: TextIO | None = None) -> tuple[int, str]:
        with monkeypatch.context() as patched, pytest.raises(SystemExit) as left:
            patched.setattr(sys, "stdout", output or sys.stdout)
            cli.main(command)
        return left.value.code or 0, capfd.readouterr().err

    return run


@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_is_no_longer_read_or_has_no_room(lines: int, ended) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        assert ended(lambda: print("a line\n" * lines), output) == (EXIT_UNREAD, "")
    if (full := Path("/dev/full")).exists():
        with full.open("w") as output:
            said = "error: the output could not be written: No space left on device\n"
            assert ended(lambda: print("a line\n" * lines), output) == (EXIT_USER_ERROR, said)


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), OSError("no route to host")], ids=str)
def test_an_error_of_no_file_is_not_of_the_output(error: OSError, ended) -> None:
    def command() -> int:
        raise error

    assert ended(command) == (EXIT_USER_ERROR, f"error: OSError: {error.strerror or error}\n")


def test_a_name_that_the_output_cannot_encode_does_not_end_a_command(ended) -> None:
    written = io.BytesIO()
    assert ended(lambda: print("é"), io.TextIOWrapper(written, encoding="ascii"))[0] == 0
    assert written.getvalue() == b"\\xe9\n"
