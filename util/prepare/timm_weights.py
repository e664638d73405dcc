"""Weights of timm's networks for ``prepare.py weights``: by name, from a file, or from the installed package."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import save
from torch import Tensor

from model.encoders.encoder import Encoder
from model.encoders.registry import problem_of
from model.encoders.settings import BareEncoderSettings, build_encoder
from model.encoders.timm_facts import PREFIX, bare_name
from model.encoders.weights import LITE0, PACKAGE, TIMM, download, licence_of, load_encoder, package_file
from model.mismatch import Mismatch
from util.engine import checkpoint
from util.errors import UserError
from util.files import write_atomically


def serves(network: str | None) -> bool:
    """Return whether a name is of this module: ``timm/<name>`` or ``package``."""
    return network == PACKAGE or (network is not None and network.startswith(PREFIX))


def describe_or_fetch(network: str, file: Path | None, out: Path) -> list[str]:
    """Return lines about the weights of a network: of a given file, of the package, or downloaded into ``out``.

    Raises:
        UserError: timm knows no such network, the download failed, or the file is of another network.
    """
    backbone = LITE0 if network == PACKAGE else network
    problem = problem_of(backbone, (), one_grid=False)
    if problem is not None:
        raise UserError(f"prepare.py weights {network}: {problem}")
    if file is not None:
        return _about(str(file), backbone, checkpoint.weights_of(checkpoint.read(file)))
    if network == PACKAGE:
        return _about(PACKAGE, backbone, _download(PACKAGE, backbone), str(package_file()))
    target = out / f"{bare_name(backbone)}.safetensors"
    if not target.exists():
        state = _download(TIMM, backbone)
        write_atomically(target, save({name: tensor.contiguous() for name, tensor in state.items()}))
    return _about(str(target), backbone, checkpoint.weights_of(checkpoint.read(target)))


def _download(source: str, backbone: str) -> dict[str, Tensor]:
    try:
        return download(source, backbone)
    except Mismatch as error:
        raise UserError(str(error)) from None


def _about(source: str, backbone: str, state: dict[str, Tensor], place: str | None = None) -> list[str]:
    """Return what a state dict is, its licence, and the settings that use it."""
    encoder: Encoder = build_encoder(BareEncoderSettings(backbone=backbone))
    try:
        missing = load_encoder(encoder, state, partial=True)
    except Mismatch as error:
        raise UserError(f"{place or source}: {error}") from None
    complete = f"{len(missing)} tensors missing, such as {missing[0]}" if missing else "complete"
    licence = licence_of(source, encoder)
    return [
        f"{place or source}: {backbone}, {complete}, licence of the weights: {licence}",
        "to use it, write in the config (or after --set, with = for the colon):",
        f"  model.encoder.backbone: {backbone}",
        f"  model.encoder.weights: {source}",
        *(["  model.encoder.partial: true"] if missing else []),
    ]
