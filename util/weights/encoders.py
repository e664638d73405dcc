"""The weights that an encoder starts from, a file or a source's; their licence, and the data they were trained on."""

from typing import Any

from model.contract import FewShotMethod, Trainable
from model.decides import Decides
from model.encoders.encoder import Encoder
from model.encoders.settings import EncoderSettings
from util.config.read import to_dict
from util.config.same import differences, in_words
from util.config.settings import Config
from util.files import project_path
from util.files.errors import UserError
from util.weights.checkpoint import Checkpoint, read
from util.weights.fill import fill
from util.weights.may_differ import ENCODER
from util.weights.sources import SOURCES, download, licence_of, pretraining_of

MISSING = "put them there, as initmodel/README.md says, or take others: NET=lite0, or NET=resnet50_plain, a download"


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
        return download(start.weights, start.backbone, encoder.torchvision)
    path = project_path(start.weights)
    if not path.exists():
        fix = "train the base stage of that run first" if path.parent.name == "base" else MISSING
        raise UserError(f"{path}: these weights do not exist; {fix}")
    stored = read(path)
    if stored.config is not None and not config.takes_other_folds:
        found = differences(stored.config, to_dict(config), Decides.IDENTITY, ENCODER.settings)
        if found and "data.name" not in found:
            other = ", ".join(in_words(found))
            fix = (
                "its base classes may be novel here; take this fold's (test.trained_on=DATA_SET scores it all the same)"
            )
            raise UserError(f"{path}: this encoder was trained with {other}; {fix}")
    return stored


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
