"""Tests of a model within this process."""

from typing import Any

from util.config.settings import Config
from util.evaluate.evaluate import evaluate


def score(config: Config, *arguments: Any, **options: Any) -> list[dict[str, Any]]:
    """Return the results of a test, each of a protocol and a number of shots."""
    return [*evaluate(config, *arguments, **options).values()]
