"""The settings of a checkpoint: those that it carries, or a named config."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from util.config.read import from_dict, read_config
from util.config.settings import Config
from util.engine import checkpoint
from util.engine.weights import NO_CHECKPOINT, OWN
from util.errors import UserError


def settings_of(weights: str | Path | None, config: str | Path | None, overrides: Sequence[str]) -> Config:
    """Return the named config, or the one in the checkpoint.

    Raises:
        UserError: the file is missing, damaged, or carries no config; or the config does not fit it.
    """
    if config is not None:
        return read_config(config, list(overrides))
    assert weights is not None
    if str(weights) in (*OWN, NO_CHECKPOINT):
        raise UserError(f"--checkpoint {weights}: means the checkpoint of a run; name the run's --config, or a file")
    content = checkpoint.read(weights)
    if not checkpoint.is_own(content):
        raise UserError(f"{weights}: carries no config; name its own, as in --config config/pascal/X.yaml")
    return from_dict(content["config"], str(weights), list(overrides))
