"""Variables of launchers, complete, incomplete and left over: one line says what is wrong, or what is waited for."""

import re
from datetime import timedelta

import pytest

from tests.helpers import spawned
from util import cli
from util.files.errors import UserError
from util.files.launcher import Place, place_of_process
from util.loop import processes

NAMES = ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
MEETING = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29400"}
LEFT_OVER = {"RANK": "1", "LOCAL_RANK": "1", **MEETING}


def set_variables(monkeypatch, variables: dict[str, str]) -> None:
    """Let the launcher's variables be these alone."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("size", [{}, {"WORLD_SIZE": ""}, {"WORLD_SIZE": "1"}])
def test_one_process_whatever_else_is_left_over(monkeypatch, size: dict[str, str]) -> None:
    set_variables(monkeypatch, LEFT_OVER | size)
    assert place_of_process() == Place()


def test_a_place_among_processes(monkeypatch) -> None:
    set_variables(monkeypatch, {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1", **MEETING})
    assert place_of_process() == Place(rank=3, size=4, local_rank=1, meeting="127.0.0.1:29400")


INCOMPLETE = [
    ({"WORLD_SIZE": "2"}, "WORLD_SIZE = 2, but RANK, MASTER_ADDR, MASTER_PORT not set; for one process: unset"),
    ({"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "here", "MASTER_PORT": ""}, "but MASTER_PORT not set"),
    ({"WORLD_SIZE": "2", "RANK": "2", **MEETING}, "RANK = 2, but WORLD_SIZE = 2"),
    ({"WORLD_SIZE": "two"}, "WORLD_SIZE = 'two' is no number"),
    ({"WORLD_SIZE": "0"}, "WORLD_SIZE = '0' is no number of at least 1"),
    ({"WORLD_SIZE": "2", **LEFT_OVER, "MASTER_PORT": "tcp"}, "MASTER_PORT = 'tcp' is no number"),
]


@pytest.mark.parametrize(("variables", "said"), INCOMPLETE)
def test_incomplete_variables_are_named(monkeypatch, capsys, variables: dict[str, str], said: str) -> None:
    set_variables(monkeypatch, variables)
    with pytest.raises(SystemExit, match="2"):
        cli.main(lambda: print(place_of_process()))
    assert said in capsys.readouterr().err


def test_an_error_is_reported_where_a_launcher_has_left_its_variables(monkeypatch, capsys) -> None:
    def fail() -> None:
        raise UserError("no such file")

    set_variables(monkeypatch, {"WORLD_SIZE": "2", **LEFT_OVER})
    with pytest.raises(SystemExit, match="2"):
        cli.main(fail)
    assert capsys.readouterr().err == "error: no such file\n"
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")  # the first of its processes reports it
    with pytest.raises(SystemExit, match="2"):
        cli.main(fail)
    assert capsys.readouterr().err == ""


def little_patience() -> None:
    processes.MEETING = timedelta(seconds=6)


@pytest.mark.process
def test_a_first_process_says_where_it_waits_for_others_and_for_how_long(mini_yaml) -> None:
    (waiting,) = spawned.start_ranks(2, "test.py", mini_yaml("prototype"), ranks=[0], before=little_patience)
    others = r"the others of WORLD_SIZE = 2 processes at 127.0.0.1:\d+"
    assert waiting.code == 2
    assert re.fullmatch(rf"note: waits for {others}; [^\n]*\nerror: see why {others} ended [^\n]*\n", waiting.stderr)
