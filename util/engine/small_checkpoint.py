"""Small checkpoints, which are passed on with a repository: half precision, without the weights that are installed.

The encoder's weights that a training left as they came with an installed package are not written; their digest is, and
a network takes them from the package again when it is filled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.contract import FewShotModel
from model.encoders.layouts import OWN
from model.encoders.weights import PACKAGE
from util.config.read import from_dict
from util.config.settings import RunSettings
from util.engine import checkpoint
from util.engine.checkpoint_form import LEFT_OUT
from util.engine.frozen_files import digest_of
from util.engine.network import new_model
from util.engine.run_context import make_run_context
from util.errors import UserError

OF_MACHINE = {"device": RunSettings().device, "precision": RunSettings().precision}  # not that of the training
DROPPED = (*checkpoint.OF_TRAINING, "progress", checkpoint.SCHEDULE)  # of a checkpoint that no training continues from


def write_small(path: Path, out: Path) -> None:
    """Write a checkpoint of this project to one small file: float16, without the weights of the installed package.

    Raises:
        UserError: it cannot be read, is none of this project, did not start from the package, or has values beyond
            float16; the file exists or cannot be written.
    """
    content = checkpoint.read(path)
    if not checkpoint.is_own(content):
        raise UserError(f"{path}: no checkpoint of this project; --small has nothing to leave out")
    if LEFT_OUT in content:
        raise UserError(f"{path}: is small already; copy the file")
    context = make_run_context(from_dict(content["config"], str(path)))
    start = context.config.model.start().weights
    if start != PACKAGE:
        raise UserError(
            f"{path}: its encoder started from {start}, and --small leaves out the weights of an installed package "
            f"({PACKAGE}); use --whole"
        )
    if out.exists():
        raise UserError(f"{out}: this file exists already; name another for --small")
    network = new_model(context)
    checkpoint.load_encoder_weights(network, PACKAGE, partial=False)
    installed, weights = network.state_dict(), checkpoint.weights_of(content)
    same = {
        name
        for name, tensor in installed.items()
        if name.startswith(OWN) and name in weights and torch.equal(weights[name], tensor)
    }
    kept = {name: _half(tensor, f"{path}: {name}") for name, tensor in weights.items() if name not in same}
    left_out = {PACKAGE: digest_of({name: installed[name] for name in same})}
    rest = {key: value for key, value in content.items() if key not in DROPPED}
    config = {**content["config"], "run": {**content["config"].get("run", {}), **OF_MACHINE}}
    checkpoint.save(out, {**rest, "config": config, "weights": kept, LEFT_OUT: left_out})


def _half(tensor: Tensor, name: str) -> Tensor:
    half = tensor.half() if tensor.is_floating_point() else tensor
    if not half.isfinite().all():
        raise UserError(f"{name} has values that float16 does not hold; use --whole")
    return half


def fill_left_out(network: FewShotModel, content: dict[str, Any], path: str | Path) -> dict[str, Tensor]:
    """Return all weights of a checkpoint, those that a small one leaves out from their package.

    The network's encoder is filled with the package's weights on the way.

    Raises:
        UserError: the package is missing, or holds other weights.
    """
    weights, left_out = checkpoint.weights_of(content), content.get(LEFT_OUT, {}) if checkpoint.is_own(content) else {}
    for source, digest in left_out.items():
        checkpoint.load_encoder_weights(network, source, partial=False)
        inside = {name: tensor for name, tensor in network.state_dict().items() if name.startswith(OWN)}
        missing = {name: tensor for name, tensor in inside.items() if name not in weights}
        if digest_of(missing) != digest:
            raise UserError(
                f"{path}: leaves out weights that the installed {source} should hold, which holds others; install "
                "requirements.txt again"
            )
        weights = {**weights, **missing}
    return weights
