"""The weights that an encoder starts from, a file or a source's; their licence, and the data they were trained on."""

from pathlib import Path
from typing import Any

from torch import Tensor

from model.contract import FewShotMethod, Trainable
from model.decides import Decides
from model.encoders.encoder import Encoder
from model.encoders.registry import downloadable
from model.encoders.settings import EncoderSettings
from model.encoders.variant import PREFIX, bare_name
from model.mismatch import ModelMismatch
from util.config.read import to_dict
from util.config.same import differences, in_words
from util.config.settings import Config
from util.files import project_path
from util.files.errors import UserError
from util.loop.device import gpu_count
from util.weights import checkpoint
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


def fill_encoder(config: Config, network: FewShotMethod) -> str:
    """Fill the model's encoder as the config asks; return a line for the log that counts the tensors left random.

    It is "" for a method without encoder and networks.

    A checkpoint of another fold of this data set may have seen novel classes. UserError: the weights are missing, which
    says how to get them, of another encoder, or of another fold.
    """
    start = config.model.encoder
    if start is None:
        networks = config.model.backbone()
        return f"networks: {networks}; licence of the weights: {network.licence}" if networks else ""
    if start.weights is None:
        return "encoder: random weights (model.encoder.weights is null)"
    path = None if start.weights in SOURCES else project_path(start.weights)
    try:
        if path is None:
            print_download(start.weights, network.encoder)
            state = download(start.weights, start.backbone, network.encoder.torchvision)
        else:
            state = _stored_encoder(config, path, network.encoder)
        missing = network.load_encoder(state, start.partial)
    except ModelMismatch as error:
        raise UserError(str(error) if path is None else f"{path}: {error}") from None
    licence = encoder_licence(start, network)
    return f"encoder: {start.weights}, {_filled(missing, licence)}"


def _filled(missing: list[str], licence: str | None) -> str:
    """Return what the line for the log says of a filled encoder: how many tensors are left random, and the licence."""
    complete = "complete"
    if missing:
        complete = f"{len(missing)} tensors start from random values, such as {missing[0]}"
    return f"{complete}; licence of the weights: {licence}" if licence else complete


def _stored_encoder(config: Config, path: Path, encoder: Encoder) -> dict[str, Tensor]:
    """Return the named tensors of a file of an encoder's weights; UserError: it is missing, or of another fold."""
    if not path.exists():
        backbone = config.model.backbone() or ""
        fix = fix_of_missing(path, backbone)
        if backbone.startswith(PREFIX):
            what = f"{bare_name(backbone)}, {size_and_licence(TIMM, encoder)}"
            fix += f", or add --set model.encoder.weights=timm, which downloads {what}"
        raise UserError(f"{path}: these weights do not exist; {fix}")
    stored = checkpoint.read(path)
    if stored.config is not None and not config.takes_other_folds:
        found = differences(stored.config, to_dict(config), Decides.IDENTITY, skip=("data.classes", "model."))
        if found and "data.name" not in found:
            other = ", ".join(in_words(found))
            raise UserError(f"{path}: this encoder was trained with {other}; {FOLD_HINT}")
    return stored.weights


def fix_of_missing(path: Path, backbone: str | None) -> str:
    """Say how to get a missing file of an encoder's weights, and what works without it."""
    run = path.parent.parent.name  # of runs/<data set>_<experiment>_<encoder>/base/<file>
    if path.parent.name == "base" and run.count("_") >= 2:
        dataset, experiment, net = run.split("_", 2)
        return f"train it first: NET={net} sh train.sh {experiment} {dataset} {gpu_count()}"
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
