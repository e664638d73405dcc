"""Checkpoints: one format, one writer, one reader, which also reads authors' files and ImageNet weights.

A ``.pth`` file holds everything that a training needs to continue. A ``.safetensors`` file holds weights in half
precision for passing on, and the rest of the content, but for the state of the training, as JSON in its header.
"""

from __future__ import annotations

import hashlib
import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from model.common.published import DDP_PREFIX
from model.contract import FewShotModel
from model.encoders.layouts import COUNTER
from model.mismatch import Mismatch
from model.registry import published_layout, related
from util.errors import UserError, WriteError
from util.files import write_atomically

log = logging.getLogger("symnet")
FORMAT = "sym-net/1"
SAFETENSORS = ".safetensors"
ENDINGS = (".pth", ".pt", SAFETENSORS)
HELD_BY = ("weights", "state_dict", "model")  # keys under which files hold their named tensors
SHOWN = 3  # tensor names in a message
# Settings that a checkpoint must share with the run that loads it, as (section, key).
FOLD = (("data", "folds"), ("data", "fold_rule"), ("data", "fold_classes"), ("data", "fold"))
IDENTITY = (("model", "name"), ("data", "name"), ("data", "classes"), *FOLD)
# Keys of a checkpoint beside its weights.
TEXT = "text"  # digest of the text vectors that the model was trained with
PHOTOS = "photos"  # digest of the names and sizes of the training list's files
SCHEDULE, EMA = "schedule", "ema"
BASE = "base"  # of a meta stage: ``training_of`` the base stage that it started from
OF_TRAINING = ("optimizers", EMA, "progress", SCHEDULE)  # what only a training that continues needs
FOLD_HINT = "its base classes may be novel here; take this fold's, or give test.py --allow-fold-mismatch"


def save(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint atomically: ``path`` holds either the old file or the complete new one.

    ``previous`` then holds the old one.

    Raises:
        UserError: the disk is full or the folder cannot be written; the old file is unchanged.
    """

    def write(temporary: Path) -> None:
        try:
            with open(temporary, "wb") as file:  # a file and not a path, which torch would write into the archive
                torch.save({"format": FORMAT, **content}, file)
        except RuntimeError as error:  # of torch's writer
            raise OSError(str(error)) from None

    _written(path, write, previous)


def save_small(path: Path, content: dict[str, Any]) -> None:
    """Write the content of a checkpoint in half precision, without the state of its training, as ``.safetensors``.

    Raises:
        UserError: a value is beyond float16, or the file cannot be written.
    """
    small = {k: v.half() if v.is_floating_point() else v for k, v in content["weights"].items()}
    if broken := next((name for name, tensor in small.items() if not tensor.isfinite().all()), None):
        raise UserError(f"{path}: {broken} has values that float16 does not hold; pass the .pth file on")
    rest = {key: value for key, value in content.items() if key not in ("weights", *OF_TRAINING)}
    header = {"content": json.dumps(rest)}
    _written(path, lambda temporary: save_file({k: v.contiguous() for k, v in small.items()}, temporary, header))


def _written(path: Path, write: Any, previous: Path | None = None) -> None:
    try:
        write_atomically(path, write, durable=True, previous=previous)
    except WriteError as error:
        raise UserError(
            f"{path}: could not write this checkpoint ({error.reason}); free some space or change run.folder; "
            "the previous checkpoint is untouched"
        ) from None


def read(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU: ours, an authors', or a plain state dict.

    Raises:
        UserError: the file is missing, truncated, damaged, or not a file of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: this checkpoint does not exist; train first, or give the path of one")
    try:
        content = _read_safetensors(path) if path.suffix == SAFETENSORS else _read_archive(path)
    except Exception as error:  # torch raises many kinds for damaged files
        said = (str(error).strip() or type(error).__name__).splitlines()[0][:160]
        raise UserError(f"{path}: truncated, or not a checkpoint that can be loaded safely ({said})") from None
    if not isinstance(content, dict) or not content:
        raise UserError(f"{path}: not a checkpoint: it holds no named tensors")
    return content


def _read_archive(path: Path) -> Any:
    """Return what torch reads, after the checksums of the archive's members, which torch does not compare."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of its member {damaged} is wrong")
    return torch.load(path, map_location="cpu", weights_only=True)


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as file:
        weights, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    return {**json.loads(header["content"]), "weights": weights} if "content" in header else weights


def training_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how the weights of a checkpoint were trained, stage by stage; empty where the file does not say.

    Each stage has its name, the steps that were done and planned, batch, image size, seed, digest of the list, and the
    section of its config.
    """
    if not is_own(content):
        return []
    config, schedule, stage = content["config"], content.get(SCHEDULE, {}), content["stage"]
    settings = config[f"{stage}_stage"]
    facts = {
        "stage": stage,
        "step": content.get("progress", {}).get("step"),
        "steps": schedule.get("steps"),
        "batch": schedule.get("batch"),
        "size": settings.get("size") or config["data"]["size"],
        "seed": config["run"]["seed"],
        "list": content.get("data"),
        "settings": settings,
    }
    return [*content.get(BASE, []), facts]


def is_own(content: dict[str, Any]) -> bool:
    """Return whether a checkpoint says that it is of this project."""
    return content.get("format") == FORMAT if isinstance(content.get("format"), str) else False


def weights_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the named tensors of the content that ``read`` returned."""
    for key in HELD_BY:
        if isinstance(content.get(key), dict):
            content = content[key]
            break
    return {k: v for k, v in content.items() if isinstance(v, Tensor)}


def digest_of(state: dict[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of named tensors, whatever file they came from."""
    out = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        out.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        out.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()


def load_weights(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Fill a network from a state dict of our own or of an authors' layout; every tensor must fit.

    Raises:
        UserError: the layout is of another model, tensors are missing or unknown, shapes differ, or values are not
            finite.
    """
    state, other = without_prefix(state), None
    if isinstance(network, FewShotModel):
        other = _other_network(network, state)
        state = network.load_published(state) or state
    own = network.state_dict()
    if problems := _problems(own, state):
        raise UserError(
            f"{source}: {other}"
            if other
            else f"{source}: not weights of this model as configured: {_describe(network, state)}"
            f"{'; '.join(problems)}; check model.name, model.encoder and the model's other settings, data.name, "
            "data.folds, data.shot and data.text"
        )
    network.load_state_dict({k: state.get(k, own[k]) for k in own})


def _problems(own: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """Return in words why a state dict does not fill a network's own tensors; [] if it does."""
    missing = [k for k in own if k not in state and not k.endswith(COUNTER)]
    unknown = [k for k in state if k not in own and not k.endswith(COUNTER)]
    shapes = [k for k in own if k in state and own[k].shape != state[k].shape]
    problems = []
    if odd := _not_numbers(own, state):
        problems.append(f"{odd} does not hold finite numbers of the right kind")
    if shapes:
        given, want = tuple(state[shapes[0]].shape), tuple(own[shapes[0]].shape)
        problems.append(f"{len(shapes)} tensors have another shape ({shapes[0]}: {given}, expected {want})")
    if missing:
        problems.append(f"{len(missing)} expected tensors are missing ({', '.join(missing[:SHOWN])})")
    if unknown:
        problems.append(f"{len(unknown)} tensors are unknown ({', '.join(unknown[:SHOWN])})")
    return problems


def _other_network(network: FewShotModel, state: dict[str, Tensor]) -> str | None:
    """Return the error about an authors' checkpoint of another method or encoder, None if it may be of this one."""
    given = published_layout(state)
    if given is None or given.title == network.title:
        return None
    return (
        f"this is a {given.title} checkpoint, the config wants {network.title}; change model.name, or bring another "
        "checkpoint"
    )


def _not_numbers(own: dict[str, Tensor], state: dict[str, Tensor]) -> str | None:
    """Return the name of the first tensor that is of another kind than the network's or not finite, None for none."""
    for name, tensor in state.items():
        if name in own and (tensor.is_floating_point() != own[name].is_floating_point() or not tensor.isfinite().all()):
            return name
    return None


def without_prefix(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict without the prefix that a distributed run's wrapper adds."""
    return {k.removeprefix(DDP_PREFIX): v for k, v in state.items()}


def _describe(network: nn.Module, state: dict[str, Tensor]) -> str:
    """Return the content of the file and the expected one, in words, if the model can tell and they differ."""
    if not isinstance(network, FewShotModel):
        return ""
    given, want = network.describe_weights(state), network.describe_weights(network.state_dict())
    return f"it holds {given}, expected {want}; " if given != want else ""


def check_identity(
    content: dict[str, Any],
    config: dict[str, Any],
    stage: str,
    source: str,
    any_fold: bool = False,
    model_keys: tuple[str, ...] = (),
    trained_on: str | None = None,
) -> None:
    """Refuse one of our own checkpoints that belongs to another stage, model, encoder, data set or fold.

    The model's name is not compared in the base stage, whose checkpoints models share; a model may also load weights of
    the model that it extends, if the tensors fit. ``any_fold`` lets folds differ.
    ``model_keys`` are the keys of the model's section that must agree, as it declares them. ``trained_on`` is the data
    set of the checkpoint where that is another one, whose classes and folds may differ.

    Raises:
        UserError: names the setting, the checkpoint's value and the expected one.
    """
    if not is_own(content):
        return  # an authors' file has no config; its tensors decide
    if content.get("stage") != stage:
        raise UserError(f"{source}: a checkpoint of the {content.get('stage')} stage, expected the {stage} stage")
    for section, key in IDENTITY:
        if ((section, key) == ("model", "name") and stage == "base") or (any_fold and (section, key) in FOLD):
            continue
        given, want = (c.get(section, {}).get(key) for c in (content["config"], config))
        if section == "data" and trained_on is not None:
            given, want = (given, trained_on) if key == "name" else (None, None)
        if given != want and not ((section, key) == ("model", "name") and related(given, want)):
            hint = f"; {FOLD_HINT}" if (section, key) in FOLD and stage == "meta" else ""
            raise UserError(f"{source}: a checkpoint with {section}.{key} = {given}, this run has {want}{hint}")
    for key in model_keys:
        given, want = (value_at(c.get("model"), key) for c in (content["config"], config))
        if given != want:
            raise UserError(f"{source}: a checkpoint with model.{key} = {given!r}, this run has {want!r}")


def value_at(section: Any, dotted: str) -> Any:
    """Return the value of a key such as ``encoder.backbone`` in a section, None if there is none."""
    for part in dotted.split("."):
        section = section.get(part) if isinstance(section, dict) else None
    return section


def fold_of(content: dict[str, Any]) -> dict[str, Any] | None:
    """Return the fold settings of one of our own checkpoints, None for a file without a config."""
    if not is_own(content):
        return None
    return {key: content["config"].get(section, {}).get(key) for section, key in FOLD}


def load_encoder_weights(
    network: FewShotModel, source: str, partial: bool, config: dict[str, Any] | None = None
) -> list[str]:
    """Fill the encoder of ``network`` from a file or one of its downloads; return the tensors that stayed random.

    With ``config``, one of our own checkpoints must be of its fold: another fold's may have seen novel classes.

    Raises:
        UserError: no such file, no connection, weights of another encoder, or of another fold of the data set.
    """
    if source in network.downloads:
        try:
            return network.load_encoder(network.download_encoder(source), partial)
        except Mismatch as error:
            raise UserError(str(error)) from None
    content = read(source)
    fold = fold_of(content)
    if config is not None and fold is not None and content["config"]["data"].get("name") == config["data"]["name"]:
        for key, given in fold.items():
            if given != config["data"][key]:
                raise UserError(
                    f"{source}: an encoder trained with data.{key} = {given}, this run has {config['data'][key]}; "
                    f"{FOLD_HINT}"
                )
    try:
        return network.load_encoder(weights_of(content), partial)
    except Mismatch as error:
        raise UserError(f"{source}: {error}") from None


def changed_settings(before: dict[str, Any], now: dict[str, Any], prefix: str = "") -> list[str]:
    """Return the keys in which two configs differ, as ``section.key``."""
    out = []
    for key in {**before, **now}:
        a, b = before.get(key), now.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            out += changed_settings(a, b, f"{prefix}{key}.")
        elif a != b:
            out.append(f"{prefix}{key}")
    return out
