"""Configs written for tests, and the errors of wrong ones."""

from pathlib import Path

import pytest

from util.config.read import read_config
from util.config.settings import Config
from util.errors import UserError

MINI = Path(__file__).resolve().parents[2] / "config/mini/mini_split0_resnet18.yaml"


def write_config(folder: Path, text: str, name: str = "run.yaml", base: Path | None = MINI) -> Path:
    """Write a config whose first line inherits from ``base``, so that ``text`` starts in line 2."""
    path = folder / name
    path.write_text((f"base: {base}\n" if base else "") + text)
    return path


def read_text(folder: Path, text: str, overrides: list[str] | None = None) -> Config:
    return read_config(write_config(folder, text), overrides)


def refusal(path: Path, overrides: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_config(path, overrides)
    message = str(caught.value)
    assert "\n" not in message
    return message


def check_refusal(folder: Path, text: str, line: int, parts: tuple[str, ...]) -> None:
    message = refusal(write_config(folder, text))
    assert message.startswith(f"{folder / 'run.yaml'}:{line}: ")
    assert all(part in message for part in parts), message
