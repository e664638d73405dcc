"""Files that many tests read and write: a JSON file, and the config of an experiment."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from util.config.compose import find_config
from util.config.read import read_config
from util.config.settings import Config


def json_of(path: Path) -> Any:
    """Return the content of a JSON file."""
    return json.loads(path.read_text())


def write_json(path: Path, content: Any) -> None:
    """Write a value as JSON."""
    path.write_text(json.dumps(content))


def config_of(*words: str, overrides: Sequence[str] = (), **named: str) -> Config:
    """Return the config of an experiment, such as ``config_of("split0", "mini", "ssp")``."""
    return read_config(find_config(*words, **named), overrides)
