"""Load a checkpoint into a network that is ready to predict: config, weights, device and input view."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from model.contract import FewShotModel
from model.registry import class_of
from util.checkpoints.weights import load_weights, settings_of
from util.config.compose import config_path
from util.config.settings import Config
from util.data.images.views import LETTERBOX, View
from util.errors import UserError
from util.files import REPOSITORY
from util.run.context import RunContext, make_run_context
from util.run.device import pick_device
from util.run.input_size import legal_side
from util.run.network import prepare_network

SHIPPED = REPOSITORY / "initmodel" / "pocket_lite0_voc.safetensors"  # the weights where no model is named
UNTRAINED = ("insid3", "lite0")  # method and encoder for which nothing was trained
MAX_SIDE = 2049  # pixels of the network's input; memory grows with its square, in some models with its fourth power


@dataclass
class LoadedModel:
    """A network in evaluation mode on its device, and the view that turns photos into its input."""

    context: RunContext
    network: FewShotModel
    device: torch.device
    view: View
    source: str  # the file of the weights, or why there is none
    note: str = ""  # a line that says which model was taken where none was named

    @property
    def precision(self) -> str:
        """The value of ``run.precision``."""
        return self.context.config.run.precision


def load_model(
    weights: str | Path | None,
    config: str | Path | None = None,
    overrides: Sequence[str] = (),
    side: int | None = None,
    device: str | None = None,
) -> LoadedModel:
    """Return the network of a checkpoint, ready to predict.

    Args:
        weights: a checkpoint; None for the one that ``config`` names (training-free models need none).
        config: a YAML file; None for the config in the checkpoint, which files of this project contain. Without a
            checkpoint, None means the weights ``SHIPPED``.
        overrides: settings to change, ``section.key=value``.
        side: of the network's input in pixels, default ``data.size``.
        device: replaces ``run.device``.

    Raises:
        UserError: a file is missing or damaged, weights and config do not fit each other, or the device is missing.
    """
    is_default = weights is None and config is None
    weights = SHIPPED if is_default else weights
    settings = settings_of(weights, config, overrides)
    test = replace(settings.test, fuse="features")  # tests with test.fuse=masks build a network of one shot
    if weights is not None:
        test = replace(test, checkpoint=str(weights))
    settings = replace(settings, test=test)
    if side is not None:
        _check_side(settings, side)
    context = make_run_context(settings)
    torch_device = pick_device(device or settings.run.device)
    side = side or settings.data.size
    network, loaded = load_weights(context, side)
    prepare_network(network, torch_device, settings.run.precision)  # not compiled: a few photos do not repay it
    note = _note(context) if is_default else ""
    return LoadedModel(context, network.eval(), torch_device, View(LETTERBOX, side, side), loaded.source, note)


def _note(context: RunContext) -> str:
    """Return the line that says which weights were taken, and how to take a method that is not trained."""
    data = context.config.data
    return (
        f"no --checkpoint: takes {context.model_class.title} on {context.config.model.backbone()}, trained on the "
        f"{len(data.classes)} classes of {data.name} ({SHIPPED.relative_to(REPOSITORY)}); without training: "
        f"--config {config_path('split0', 'pascal', *UNTRAINED)}"
    )


def _check_side(config: Config, side: int) -> None:
    """Refuse an input side that the model does not take."""
    below, above = class_of(config.model).sizes_around(side, config.model)
    if side != below:
        raise UserError(f"--resize {side}: the model does not take this side; nearest: {below}, {above}")
    if legal_side(config, side) != side:
        raise UserError(
            f"--resize {side}: the model, as it was trained, does not take this side; omit --resize to use "
            f"{config.data.size}"
        )
