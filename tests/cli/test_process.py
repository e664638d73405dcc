"""Commands in odd processes: an output that nobody reads, wrong variables of torchrun, names that are refused."""

import io
import os
import sys
from pathlib import Path

import pytest

from util import cli
from util.errors import EXIT_UNREAD, EXIT_USER_ERROR


@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_that_is_no_longer_read_ends_a_command_silently(
    lines: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as left:
            cli.main(lambda: print("a line\n" * lines))
    assert left.value.code == EXIT_UNREAD and not capfd.readouterr().err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("lines", [1, 100_000])
def test_an_output_without_room_is_a_line(
    lines: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture
) -> None:
    with Path("/dev/full").open("w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as left:
            cli.main(lambda: print("a line\n" * lines))
        monkeypatch.undo()
    assert left.value.code == EXIT_USER_ERROR
    assert capfd.readouterr().err == "error: the output could not be written: No space left on device\n"


@pytest.mark.parametrize("error", [OSError(12, "Cannot allocate memory"), OSError("no route to host")], ids=str)
def test_an_error_of_no_file_is_not_of_the_output(error: OSError, capfd: pytest.CaptureFixture) -> None:
    def command() -> int:
        raise error

    with pytest.raises(SystemExit) as left:
        cli.main(command)
    assert left.value.code == EXIT_USER_ERROR
    assert capfd.readouterr().err == f"error: OSError: {error.strerror or error}\n"


def test_a_name_that_the_output_cannot_encode_does_not_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit) as left:
        cli.main(lambda: print("é"))
    assert not left.value.code and written.getvalue() == b"\\xe9\n"
