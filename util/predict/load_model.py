"""From a checkpoint to a network that is ready: its own config or a named one, its weights, device and view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model.contract import FewShotModel
from model.registry import class_of
from util.config.read import from_dict, read_config
from util.config.settings import Config
from util.data.views import LETTERBOX, View
from util.engine import checkpoint
from util.engine.device import pick_device
from util.engine.input_size import legal_side
from util.engine.run_context import RunContext, make_run_context
from util.engine.test_jobs import NO_CHECKPOINT, OWN, load_weights
from util.errors import UserError

MAX_SIDE = 2049  # pixels of the network's input; memory grows with its square, in some models with its fourth power


@dataclass
class Opened:
    """A network in evaluation mode on its device, and how photos become its input."""

    context: RunContext
    network: FewShotModel
    device: torch.device
    view: View
    source: str

    @property
    def precision(self) -> str:
        """As ``run.precision``."""
        return self.context.config.run.precision


def open_model(
    weights: str | Path | None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    side: int | None = None,
    device: str | None = None,
) -> Opened:
    """Return the network of a checkpoint.

    Args:
        weights: a checkpoint; None for what ``config`` names (a model that learns nothing needs no checkpoint).
        config: a YAML file; None takes the config that a checkpoint of ours carries.
        overrides: ``section.key=value``.
        side: of the network's input, default ``data.size``.
        device: as ``run.device``, which it replaces.

    Raises:
        UserError: a file is missing or damaged, things do not fit together, or no such device.
    """
    settings = _config(weights, config, list(overrides))
    changes = {} if weights is None else {"checkpoint": str(weights)}
    # a test may ask for another network, of one shot
    settings = replace(settings, test=replace(settings.test, fuse="features", **changes))
    if side is not None:
        _check_side(settings, side)
    context = make_run_context(settings)
    where = pick_device(device or settings.run.device)
    side = side or settings.data.size
    loaded = load_weights(context, side)
    return Opened(context, loaded.network.to(where).eval(), where, View(LETTERBOX, side, side), loaded.source)


def _config(weights: str | Path | None, config: str | Path | None, overrides: list[str]) -> Config:
    if config is not None:
        return read_config(config, overrides)
    if weights is None:
        raise UserError("no model: name a --checkpoint, or a --config whose run has one or needs none")
    if str(weights) in (*OWN, NO_CHECKPOINT):
        raise UserError(f"--checkpoint {weights}: means the checkpoint of a run; name the run's --config, or a file")
    content = checkpoint.read(weights)
    if content.get("format") != checkpoint.FORMAT or not isinstance(content.get("config"), dict):
        raise UserError(
            f"{weights}: carries no config; name the one it belongs to, as in --config config/pascal/X.yaml"
        )
    return from_dict(content["config"], str(weights), overrides)


def _check_side(config: Config, side: int) -> None:
    """Refuse a side that the model does not take."""
    below, above = class_of(config.model).sizes_around(side)
    if not 1 <= side <= MAX_SIDE:
        raise UserError(f"--resize {side}: must be 1..{MAX_SIDE}")
    if side != below:
        raise UserError(f"--resize {side}: a side that this model does not take; nearest: {below}, {above}")
    if legal_side(config, side) != side:
        raise UserError(
            f"--resize {side}: this model as trained does not take it; leave it away for {config.data.size}"
        )
