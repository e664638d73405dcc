"""The weights that an encoder starts from, a file or a source's; their licence, and the data they were trained on."""

from pathlib import Path
from typing import Any

import torch

from model.contract import FewShotMethod, Trainable
from model.decides import Decides
from model.encoders.encoder import Encoder
from model.encoders.registry import downloadable
from model.encoders.settings import EncoderSettings
from model.encoders.variant import PREFIX, bare_name
from util.config.read import to_dict
from util.config.same import differences, in_words
from util.config.settings import Config
from util.files import project_path
from util.files.errors import UserError
from util.weights.checkpoint import Checkpoint, read
from util.weights.fill import fill
from util.weights.sources import (
    SOURCES,
    TIMM,
    checksum_of,
    download,
    licence_of,
    pretraining_of,
    print_download,
    size_and_licence,
)

FOLD_HINT = "its base classes may be novel here; take this fold's (test.trained_on=DATA_SET scores it all the same)"


def start_encoder(config: Config, network: FewShotMethod) -> tuple[str, Checkpoint | None]:
    """Fill a method's encoder as the config asks; return a line for the log, and the file; None: of no user's file.

    The line counts the tensors left random; it is "" for a method without encoder and networks. UserError: as
    ``file_of_encoder`` and ``fill``.
    """
    start = config.model.encoder
    if start is None:
        networks = config.model.backbone()
        return f"networks: {networks}; licence of the weights: {network.licence}" if networks else "", None
    if start.weights is None:
        return "encoder: random weights (model.encoder.weights is null)", None
    file = file_of_encoder(config, network.encoder)
    missing = fill(network.encoder, file, start.partial)
    found = "complete"
    if missing:
        found = f"{len(missing)} tensors start from random values, such as {missing[0]}"
    licence = encoder_licence(start, network)
    note = f"encoder: {start.weights}, {found}" + (f"; licence of the weights: {licence}" if licence else "")
    return note, None if start.weights in SOURCES else file


def photos_of_encoder(file: Checkpoint | None) -> frozenset[str] | None:
    """Return the photos that an encoder's file was trained on; none if it is of no run; None: its run does not say."""
    return frozenset() if file is None or file.config is None else file.photos


def file_of_encoder(config: Config, encoder: Encoder) -> Checkpoint:
    """Return the weights that an encoder starts from, of a named source or of a file.

    A checkpoint of another fold of this data set may have seen novel classes. UserError: they are missing, which says
    how to get them, or of such a fold.
    """
    start = config.model.encoder
    if start.weights in SOURCES:
        print_download(start.weights, encoder)
        return download(start.weights, start.backbone, encoder.torchvision)
    path = project_path(start.weights)
    if not path.exists():
        backbone = config.model.backbone() or ""
        fix = fix_of_missing(path, backbone)
        if backbone.startswith(PREFIX):
            what = f"{bare_name(backbone)}, {size_and_licence(TIMM, encoder)}"
            fix += f", or add --set model.encoder.weights=timm, which downloads {what}"
        raise UserError(f"{path}: these weights do not exist; {fix}")
    stored = read(path)
    if stored.config is not None and not config.takes_other_folds:
        found = differences(stored.config, to_dict(config), Decides.IDENTITY, skip=("data.classes", "model."))
        if found and "data.name" not in found:
            other = ", ".join(in_words(found))
            raise UserError(f"{path}: this encoder was trained with {other}; {FOLD_HINT}")
    return stored


def fix_of_missing(path: Path, backbone: str | None) -> str:
    """Say how to get a missing file of an encoder's weights, and what works without it."""
    run = path.parent.parent.name  # of runs/<data set>_<experiment>_<encoder>/base/<file>
    if path.parent.name == "base" and run.count("_") >= 2:
        dataset, experiment, net = run.split("_", 2)
        return f"train it first: NET={net} sh train.sh {experiment} {dataset} {torch.cuda.device_count()}"
    digits = checksum_of(path.name)
    checksum = "" if digits is None else f" (its SHA-256 begins with {digits})"
    fix = f"put it there{checksum}, initmodel/README.md says where it comes from; or take NET=lite0"
    if backbone in downloadable():
        plain = "--set model.encoder.stem=plain --set model.encoder.weights=torchvision"
        fix += f", or add {plain}, which downloads others"
    return fix


def encoder_licence(start: EncoderSettings | None, network: Trainable) -> str | None:
    """Return the licence of the weights that the encoder started from; None: it has none, or it is not known here."""
    encoder = getattr(network, "encoder", None)
    if start is None or encoder is None:
        return getattr(network, "licence", None)
    return licence_of(start.weights, encoder)


def encoder_data(network: FewShotMethod, trained: dict[str, Any] | None) -> str | None:
    """Return the data that the encoder's first weights, of the training where it is known, were trained on."""
    start = network.settings.encoder
    encoder = getattr(network, "encoder", None)
    if start is None or encoder is None:
        return network.settings.pretraining
    if trained is not None:
        before = trained["model"].get("encoder") or {}
        if "weights" in before:
            return pretraining_of(before["weights"], encoder, before.get("pretraining"))
    return pretraining_of(start.weights, encoder, start.pretraining)
