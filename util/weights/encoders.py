"""The weights that encoders start from, files or a source's; their licence, and the data they were trained on."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from torch import nn

from model.contract import FewShotMethod, Trainable
from model.decides import Decides
from model.encoders.encoder import Encoder
from model.encoders.settings import EncoderSettings
from util.config.compose import PLAIN
from util.config.folder import encoders as encoder_names
from util.config.folds import Fold
from util.config.read import to_dict
from util.config.same import differences, in_words, known_keys
from util.config.settings import FOLD_RULES, Config, DataSettings
from util.files.errors import UserError
from util.files.project import project_path
from util.files.typecheck import convert
from util.weights.checkpoint import Checkpoint, digest_of, read
from util.weights.fill import fill
from util.weights.may_differ import ENCODER
from util.weights.sources import (
    PACKAGE,
    SOURCES,
    UNCONNECTED,
    check_source,
    download,
    fetch_command,
    fetch_from_hub,
    is_released,
    pretraining_of,
)

# COCO's names of classes that PASCAL names otherwise, as letters alone
ALIKE = {"aeroplane": "airplane", "motorbike": "motorcycle", "sofa": "couch", "tvmonitor": "tv"}
NOT_KNOWN = "not known"


def encoders_of(network: nn.Module) -> dict[str, Encoder]:
    """Return the encoders of a network that settings built, by their names in it: ``encoder``, and a method's own."""
    return {name: part for name, part in network.named_modules() if isinstance(part, Encoder) and part.start}


def starts_of(settings: Any) -> dict[str, EncoderSettings]:
    """Return the settings of a method's encoders by their keys."""
    values = {part.name: getattr(settings, part.name) for part in fields(settings)}
    return {name: value for name, value in values.items() if isinstance(value, EncoderSettings)}


def start_encoders(
    config: Config, network: FewShotMethod, but: Iterable[str] = (), *, downloads: bool = True
) -> tuple[str, list[Checkpoint]]:
    """Fill a method's encoders as the config asks; return a line for the log on each, and the files of users.

    Args:
        config: of the run.
        network: the method.
        but: names of encoders that are filled already.
        downloads: weights of a release are fetched; else they are taken to be there.

    Raises:
        UserError: weights are missing or do not fit, or the network has no encoder that takes them.
    """
    encoders = encoders_of(network)
    _check_read(config, encoders)
    empty = {name: encoder for name, encoder in encoders.items() if name not in but}
    lines = [] if downloads else [*_to_fetch(config, network, empty)]
    if networks := "" if encoders else config.model.encoder_name():
        lines.append(f"networks: {networks}; licence of the weights: {network.licence}")
    started = [
        _start(config, name, encoder)
        for name, encoder in empty.items()
        if downloads or encoder.start.weights not in SOURCES
    ]
    lines += [line for line, _ in started]
    return "; ".join(lines), [file for _, file in started if file is not None]


def _to_fetch(config: Config, network: FewShotMethod, encoders: dict[str, Encoder]) -> Iterator[str]:
    """Yield a line on each network of the hub, and encoder, of a method whose weights a training will download.

    UserError: a source has none of it, or it must not be downloaded.
    """
    from huggingface_hub.constants import HF_HUB_OFFLINE  # for networks of the hub alone

    parts = network.settings.weights if network.pretrained_parts else ()
    commands = {name: fetch_from_hub(name) for name in parts}
    releases = {name: encoder for name, encoder in encoders.items() if encoder.start.weights in SOURCES}
    for name, encoder in releases.items():
        source = encoder.start.weights, encoder.start.backbone, encoder.torchvision
        check_source(*source, _key(config, name, encoder))
        if encoder.start.weights != PACKAGE:
            commands[encoder.start.backbone] = fetch_command(*source)
    for name, command in commands.items():
        lacks = f"weights of {name} are not here"
        if HF_HUB_OFFLINE and "huggingface" in command:
            raise UserError(f"{lacks}, and HF_HUB_OFFLINE is set", fix=f"{UNCONNECTED}: {command}")
        if command:
            yield f"{lacks} and will be downloaded; {UNCONNECTED}: {command}"


def _check_read(config: Config, encoders: dict[str, Encoder]) -> None:
    """Refuse (UserError) weights that the config names for an encoder which the method does not build."""
    taken = [encoder.start.weights for encoder in encoders.values()]
    for key, start in starts_of(config.model).items():
        if start.weights is not None and start.weights not in taken:
            raise UserError(
                f"{config.source}: model.{key}.weights = {start.weights} is read by no encoder",
                fix=f"set it to null, or let the method build that encoder by build_encoder(settings.{key})",
            )


def _start(config: Config, name: str, encoder: Encoder) -> tuple[str, Checkpoint | None]:
    """Fill an encoder; return a line, which counts the tensors left random, and the user's file that it comes from."""
    start = encoder.start
    if start.weights is None:
        return f"{name}: random weights ({_key(config, name, encoder)} is null)", None
    file = file_of_encoder(config, encoder, _key(config, name, encoder))
    missing = fill(encoder, file, start.partial)
    random = f"{len(missing)} tensors start from random values, such as {missing[0]}" if missing else ""
    licence = _licence_of(encoder)
    stated = f"; licence of the weights: {licence}" if licence else ""
    line = f"{name}: {start.backbone}, weights of {file.path}, {random or 'complete'}{stated}"
    return line, None if start.weights in SOURCES else file


def _licence_of(encoder: Encoder) -> str | None:
    """Return the licence of the weights that an encoder starts from; None: it is not known here."""
    return encoder.licence if is_released(encoder.start.weights, encoder) else None


def _key(config: Config, name: str, encoder: Encoder) -> str:
    """Return the key of the weights that a method's encoder starts from; ``name`` is the encoder's in the network."""
    keys = [key for key, start in starts_of(config.model).items() if start == encoder.start]
    return f"model.{name if name in keys else next(iter(keys), name)}.weights"


def photos_of_encoders(files: Sequence[Checkpoint]) -> frozenset[str] | None:
    """Return the photos that encoders' files of runs were trained on; None: one of the runs does not say."""
    photos = [file.photos for file in files if file.config is not None]
    known = [part for part in photos if part is not None]
    return frozenset().union(*known) if len(known) == len(photos) else None


def classes_of(files: Iterable[Checkpoint], data_set: str) -> list[str]:
    """Return the names of the classes that files of runs were trained on; of a file that states none by its fold.

    Such a file of the data set itself counts for nothing: it has the fold's own classes, or was refused.
    """
    names = set[str]()
    for file in files:
        data = (file.config or {}).get("data", {})
        if file.classes is not None:
            names |= {*file.classes}
        elif data.get("name") not in (None, data_set) and data.get("fold_rule") in FOLD_RULES:
            names |= {data["classes"][c - 1] for c in fold_of(data).base}
    return sorted(names)


def letters_of(name: str) -> str:
    """Return a class's name as others may write it: without its case, blanks and hyphens."""
    letters = "".join(filter(str.isalnum, name.lower()))
    return ALIKE.get(letters, letters)


def fold_of(recorded: dict[str, Any]) -> Fold:
    """Return the fold of the data settings of a checkpoint's config."""
    data = known_keys(recorded, DataSettings)
    return Fold.of(convert(DataSettings, data, "data"))


def digest_of_files(files: Iterable[Checkpoint]) -> str | None:
    """Return the digest of the tensors in some files, whatever their order; None: there are none."""
    return "+".join(sorted(digest_of(file.weights) for file in files)) or None


def _how_to_get(path: Path, backbone: str) -> str:
    """Return where the missing weights of an encoder come from, or which others there are."""
    if path.parent.name == "base":
        return "train the base stage of that run first"
    plain = backbone + PLAIN
    download_of = f", or NET={plain}, a download" if plain in encoder_names() else ""
    return f"put them there, as initmodel/README.md says, or take others: NET=lite0{download_of}"


def file_of_encoder(config: Config, encoder: Encoder, key: str) -> Checkpoint:
    """Return the weights that an encoder starts from, of a named source or of a file; ``key`` is that in the config.

    A checkpoint of another fold of this data set may have seen novel classes. UserError: they are missing, which says
    how to get them, or of such a fold.
    """
    start = encoder.start
    if start.weights in SOURCES:
        return download(start.weights, start.backbone, encoder.torchvision, key)
    path = project_path(start.weights)
    if not path.exists():
        raise UserError(f"{path}: these weights do not exist ({key})", fix=_how_to_get(path, start.backbone))
    stored = read(path)
    if stored.config is not None:
        found = differences(stored.config, to_dict(config), Decides.IDENTITY, ENCODER.settings)
        if found and "data.name" not in found:
            raise UserError(
                f"{path}: this encoder was trained with {', '.join(in_words(found))}",
                fix="its base classes may be novel here; take this fold's",
            )
    return stored


def encoder_licence(network: Trainable) -> str | None:
    """Return the licence of the weights that the encoders started from; None: there are none, or it is not known."""
    encoders = encoders_of(network)
    if not encoders:
        return getattr(network, "licence", None)
    return _together({name: _licence_of(encoder) for name, encoder in encoders.items()})


def encoder_data(network: FewShotMethod, stored: Checkpoint) -> str | None:
    """Return the data that the encoders' first weights, of the training where it is known, were trained on.

    ``stored``: what the network was filled with. None: it is not known, as of a file of others.
    """
    encoders = encoders_of(network)
    if not encoders:
        return network.settings.pretraining
    if stored.is_unknown:
        return None
    data = {}
    for name, encoder in encoders.items():
        before = (stored.config or {"model": {}})["model"].get(name) or {}
        start = before if "weights" in before else vars(encoder.start)
        data[name] = pretraining_of(start["weights"], encoder, start.get("pretraining"))
    return _together(data)


def _together(facts: Mapping[str, str | None]) -> str | None:
    """Return the facts of several encoders as one, those of all but the first by their names."""
    (_, first), *others = facts.items()
    if first is None and not any(fact for _, fact in others):
        return None
    return "; ".join([first or NOT_KNOWN, *(f"{name}: {fact or NOT_KNOWN}" for name, fact in others)])
