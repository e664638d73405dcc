"""Commands in odd processes: an output that nobody reads, wrong variables of torchrun, names that are refused."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tests.cli.configs import MINI
from tests.outcome import run_script
from util import cli
from util.config.read import read_config
from util.config.yaml_text import override
from util.engine.processes import join
from util.errors import EXIT_UNREAD, EXIT_USER_ERROR, UserError

PROTOTYPE = "mini_split0_prototype_resnet10.yaml"


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


def test_a_name_that_the_output_cannot_encode_does_not_end_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    with pytest.raises(SystemExit) as left:
        cli.main(lambda: print("é"))
    assert not left.value.code and written.getvalue() == b"\\xe9\n"


@pytest.mark.parametrize(
    "odd", [{"WORLD_SIZE": "x"}, {"WORLD_SIZE": "0"}, {"LOCAL_RANK": "-1"}, {"LOCAL_RANK": "²"}, {"WORLD_SIZE": "4"}]
)
def test_variables_that_torchrun_did_not_set_are_refused(odd: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in odd.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"{next(iter(odd))}.*unset"), join("cpu", "data.size"):
        pass


@pytest.mark.parametrize("name", ["x" * 300, "a\0b"])
def test_names_that_the_system_refuses_are_one_line(name: str, mini_yaml, capfd, monkeypatch, tmp_path: Path) -> None:
    words = ("--config", mini_yaml(PROTOTYPE), "--query", tmp_path / name, "--out", tmp_path / "out")
    run_script("predict.py", (*words, "--support", f"{tmp_path / name}:box=1,1,9,9"), capfd, monkeypatch).error  # noqa: B018


@pytest.mark.parametrize("name", ["#1.pth", "a: b.pth", "yes", "[x].pth", "~", "x #1.pth", "'q", "007", "a\nb"])
def test_a_path_may_mean_something_in_yaml(name: str) -> None:
    assert read_config(MINI, [override("test.checkpoint", name)]).test.checkpoint == name


def test_a_checkpoint_with_such_a_name_is_looked_for(mini_yaml, capfd, monkeypatch) -> None:
    line = run_script("test.py", (mini_yaml(), "--checkpoint", "#1.pth"), capfd, monkeypatch).error
    assert "#1.pth: this checkpoint does not exist" in line


def test_a_message_holds_nothing_that_a_terminal_would_obey() -> None:
    error = UserError("a name \x1b[31m\u202e\n of \udcff" + "k" * 10**6)
    assert str(error).startswith("a name ?[31m? of ?kkk") and len(str(error)) < 5000
