"""The file of an encoder's first weights: whether it is there, and which settings work without it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from model.encoders.layouts import recognise
from model.encoders.registry import downloadable
from model.encoders.resnet import PLAIN
from model.encoders.settings import BareEncoderSettings
from model.encoders.weights import TORCHVISION, checksum_of, weights_url
from model.registry import class_of
from util.config.settings import Config
from util.engine import checkpoint
from util.errors import UserError


def check_encoder_file(config: Config) -> None:
    """Refuse an encoder's file that does not exist.

    Raises:
        UserError: says where such files come from, and which settings need none.
    """
    source = config.model.start().weights
    if source is None or source in class_of(config.model).downloads or Path(source).exists():
        return
    run = Path(source).parent.parent.name  # of runs/<data set>_<experiment>_<encoder>/base/<file>
    if Path(source).parent.name == "base" and run.count("_") >= 2:
        dataset, experiment, net = run.split("_", 2)
        raise UserError(
            f"{source}: this base stage's checkpoint does not exist; train it first: NET={net} sh train.sh "
            f"{experiment} {dataset} 0 (0 is the CPU)"
        )
    ways = [*_fitting_files(config, Path(source).parent), *_download(config)]
    raise UserError(
        f"{source}: these ImageNet weights do not exist; initmodel/README.md says where they come from "
        f"({_checksum(Path(source).name)}), python prepare.py weights FILE checks them, and "
        f"{' or '.join([*ways, 'NET=lite0'])} works without them"
    )


def _checksum(name: str) -> str:
    """Return in words how the SHA-256 of a file begins, if its name states it."""
    digits = checksum_of(name)
    return "no checksum of it is documented" if digits is None else f"its SHA-256 begins with {digits}"


def _download(config: Config) -> list[str]:
    """Return the overrides that download torchvision's file for the config's encoder, with the file's checksum."""
    settings, backbone = _settings(config, PLAIN, TORCHVISION), _encoder(config).backbone
    if backbone not in downloadable():
        return []
    return [f"{settings} (downloads {(name := Path(weights_url(backbone)).name)}, {_checksum(name)})"]


def _encoder(config: Config) -> BareEncoderSettings:
    """Return the ``encoder`` section of a config whose model has one."""
    return cast(Any, config.model).encoder


def _fitting_files(config: Config, folder: Path) -> list[str]:
    """Return the overrides that take a file of a folder which fits the config's encoder, for at most one file."""
    for path in sorted(folder.glob("*.pth")):
        try:
            found = recognise(checkpoint.weights_of(checkpoint.read(path)))
        except UserError:
            continue
        if found is None or found.backbone != _encoder(config).backbone or found.inside:
            continue
        if found.stem == PLAIN or _has_stem(config):
            return [_settings(config, found.stem, path, "true" if found.missing else None)]
    return []


def _has_stem(config: Config) -> bool:
    """Return whether the stem is a setting of the config's encoder; otherwise it is plain."""
    return "stem" in {field.name for field in dataclasses.fields(_encoder(config))}


def _settings(config: Config, stem: str, source: object, partial: str | None = None) -> str:
    """Return the overrides of an encoder's weights, with those that go with them."""
    values = {"weights": source, "stem": stem if _has_stem(config) else None, "partial": partial}
    return " ".join(f"--set model.encoder.{key}={value}" for key, value in values.items() if value is not None)
