"""``reproduce.sh`` run within this process."""

import sys

import pytest

from util.files.errors import EXIT_USER_ERROR, UserError
from util.launch.reproduce import main


def as_options(settings: dict[str, object]) -> list[str]:
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch, capsys):
    """Return a function that runs the command with words, and gives its exit code and all that it says."""

    def run(*words: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["reproduce", *words])
        try:
            code = main()
        except UserError as error:
            return EXIT_USER_ERROR, str(error)
        return code, "".join(capsys.readouterr())

    return run
