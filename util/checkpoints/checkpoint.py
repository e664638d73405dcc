"""Checkpoints: one format, one writer, one reader, which also reads authors' files and ImageNet weights.

A ``.pth`` file is a dictionary of all that a training needs to continue: ``weights``, ``optimizers``, ``ema``,
``scaler``, ``progress``, ``schedule``, ``stage``, ``config``, the digests of the training list (``data``), of its
photos and masks (``content``), of the text vectors (``text``) and of the weights at its ``start``, the training of the
base stage (``base``), whether it is ``finished``, and the encoder's ``licence``. With EMA, ``best.pth`` holds the
average alone, ``last.pth`` the raw weights and the average of those that learn (``ema``), which is what a test or a
prediction loads. A ``.safetensors`` file holds weights and, but for the state of the training, the rest as JSON in its
header. A published folder holds such a file as ``MODEL``, for which it stands wherever a checkpoint is named."""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shutil
import zipfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from model.contract import FewShotModel, Trainable
from model.encoders.layouts import COUNTER
from model.published import DDP_PREFIX
from model.registry import published_layout, related
from util.config.former import without_former
from util.config.read import to_dict
from util.config.settings import MOMENTS, Config, StageSettings
from util.config.tree import find
from util.errors import UserError
from util.files import project_path, stand_in, write_atomically

FORMAT = "sym-net/1"
SAFETENSORS = ".safetensors"
ENDINGS = (".pth", ".pt", SAFETENSORS)
MODEL = f"model{SAFETENSORS}"  # of a published folder
HELD_BY = ("weights", "state_dict", "model_state_dict", "model", "net", "network", "module")  # keys of named tensors
WRAPPERS = (DDP_PREFIX, "model.", "net.", "network.")  # what DDP, Lightning and others put before all names
OF_TYPE = re.compile(r"GLOBAL (\S+)( was not an allowed)?")  # in torch's refusals
OF_CONFIGS = ("config", "base")  # entries of a checkpoint with settings of its training, and of its base stage's
FOLD = ("folds", "fold_rule", "fold_classes", "fold")  # data settings that decide which classes are novel
FOLD_HINT = "its base classes may be novel here; take this fold's (a test scores it by test.allow_fold_mismatch=true)"


def save(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint of CPU tensors atomically: ``path`` holds either the old file or the complete new one.

    Args:
        path: the file.
        content: its entries, see the head of this module.
        previous: then holds the old file.

    Raises:
        WriteError: the disk is full or the folder cannot be written; the old file is unchanged.
    """

    def write(temporary: Path) -> None:
        try:
            with open(temporary, "wb") as file:  # a file and not a path, which torch would write into the archive
                torch.save({"format": FORMAT, **on_cpu(content)}, file)
        except RuntimeError as error:  # of torch's writer
            raise OSError(str(error)) from None

    write_atomically(path, write, durable=True, previous=previous)


def on_cpu(value: Any) -> Any:
    """Return nested dictionaries and lists with their tensors on the CPU."""
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [on_cpu(entry) for entry in value]
    return value.cpu() if isinstance(value, Tensor) else value


def save_safetensors(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint without its training's state as ``.safetensors``; errors as ``write_atomically``."""
    weights = {}
    for name, tensor in weights_of(content).items():
        weights[name] = tensor.clone(memory_format=torch.contiguous_format)
    rest = {key: value for key, value in content.items() if key not in ("weights", "optimizers", "ema", "scaler")}
    rest["progress"] = {"step": rest.get("progress", {}).get("step")}
    write_atomically(path, save_tensors(weights, {"content": json.dumps(rest)}), durable=True)


def halved(weights: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a file in half precision; refuse (UserError) values that float16 does not hold."""
    out = {}
    for name, tensor in weights.items():
        out[name] = tensor.half() if tensor.is_floating_point() else tensor
        if not out[name].isfinite().all():
            raise UserError(f"{path}: {name} has values that float16 does not hold; leave --half out")
    return out


def file_of(path: str | Path) -> Path:
    """Return the file of weights that a path names: itself, or that of a published folder; see ``project_path``."""
    path = project_path(path)
    return path / MODEL if path.is_dir() else path


def read(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU: ours, an authors', or a plain state dict.

    UserError: the file is missing, truncated, damaged, or not a file of tensors.
    """
    path = file_of(path)
    if not path.is_file():
        raise UserError(f"{path}: this checkpoint does not exist; train first, or give the path of one")
    try:
        content = _load(path)
    except Exception as error:  # torch raises many kinds for damaged files
        if other := stand_in(path):
            raise UserError(f"{path}: is {other}") from None
        reason = _reason(error)[:160]
        raise UserError(
            f"{path}: truncated, or not a checkpoint that can be loaded safely ({reason}); copy it anew"
        ) from None
    if isinstance(content, dict) and is_own(content):
        return {key: without_former(part) if key in OF_CONFIGS else part for key, part in content.items()}
    if isinstance(content, dict) and weights_of(content):
        return content
    entries = content if isinstance(content, dict) else {"the file": content}
    kinds = ", ".join(f"{k}: {type(value).__module__}.{type(value).__qualname__}" for k, value in entries.items())
    raise UserError(f"{path}: holds no named tensors ({kinds or 'nothing'}); save model.state_dict()")


def _reason(error: Exception) -> str:
    """Return on one line why a file cannot be loaded."""
    text = str(error).rpartition("WeightsUnpickler error: ")[2].strip()
    if refused := OF_TYPE.search(text):
        return f"it would load {refused[1]}"
    return (text or type(error).__name__).splitlines()[0]


class _Foreign:
    """Stands for an object of any type but tensors and plain data, of which nothing is loaded or executed."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return {"defaultdict": dict, "deque": list}.get(cls.__name__, partial(object.__new__, cls))()

    def __init__(self, *_: Any, **__: Any):
        pass

    __setstate__ = __init__


def _load(path: Path) -> Any:
    """Return what a file holds."""
    if path.suffix == SAFETENSORS:
        return _load_safetensors(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # torch compares no checksums
            damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"the checksum of its member {damaged} is wrong")
    return _load_pickle(path)


def _load_safetensors(path: Path) -> dict[str, Any]:
    """Return the tensors of a file or, if its header has the rest of one of our checkpoints, that checkpoint."""
    with safe_open(path, "pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = file.metadata() or {}
    if "content" not in header:
        return weights
    return {**json.loads(header["content"]), "weights": weights}


def _load_pickle(path: Path) -> Any:
    """Return what a file holds, with a ``_Foreign`` in place of objects that torch refuses, such as NumPy's numbers."""
    stand_ins: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals([*stand_ins.values()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            refused = OF_TYPE.search(str(error))
            if refused is None or not refused[2] or refused[1] in stand_ins:
                raise
            module, _, name = refused[1].rpartition(".")
            stand_ins[refused[1]] = type(name, (_Foreign,), {"__module__": module or "builtins"})


def is_own(content: dict[str, Any]) -> bool:
    """Return whether a checkpoint says that it is of this project."""
    return content.get("format") == FORMAT


def weights_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the named tensors of the content that ``read`` returned, without the names of others' wrappers.

    Those of our own come with their moving average.
    """
    for key in HELD_BY:
        held = weights_of(content[key]) if isinstance(content.get(key), dict) else {}
        if held:
            return {**held, **content.get("ema", {})} if is_own(content) else held
    state = {}
    for name, value in content.items():
        if isinstance(value, Tensor):
            state[str(name).replace("_orig_mod.", "")] = value  # which torch.compile adds
    while published_layout(state) is None:
        wrapper = _wrapper_of(state)
        if wrapper is None:
            break
        state = {name.removeprefix(wrapper): tensor for name, tensor in state.items()}
    return state


def _wrapper_of(names: Iterable[str]) -> str | None:
    """Return the first of ``WRAPPERS`` with which most names begin; None: there is none."""
    names = list(names)
    for wrapper in WRAPPERS:
        count = sum(name.startswith(wrapper) for name in names)
        if 2 * count > len(names):
            return wrapper
    return None


def training_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how the weights of a checkpoint were trained, stage by stage; empty where the file does not say.

    Each stage has its name, the steps that were done and planned, batch, image size, seed, digest of the list, the
    section of its config, and the precision that it was computed in, where it is known.
    """
    if not is_own(content):
        return []
    config = content["config"]
    stage = content["stage"]
    settings = config[f"{stage}_stage"]
    schedule = content.get("schedule", {})
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
    if "precision" in content:  # checkpoints before November 2026 know only what was asked
        facts["precision"] = content["precision"]
    return [*content.get("base", []), facts]


def precision_of(content: dict[str, Any]) -> str | None:
    """Return the precision that one of our checkpoints was trained in; None: it says only that it was chosen there."""
    asked = content["config"].get("run", {}).get("precision")
    stated = None if asked == "auto" else asked
    return content.get("precision", stated)


def digest_of(state: dict[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of named tensors, whatever file they came from."""
    out = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        out.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        out.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()


def check_identity(content: dict[str, Any], config: Config, stage: str, source: str) -> None:
    """Refuse one of our own checkpoints that is of another stage, model, encoder, data set or fold.

    The model's name is not compared in the base stage, whose checkpoints models share; a model may also load weights of
    the model that it extends, if the tensors fit. ``test.allow_fold_mismatch`` lets folds of the meta stage differ, and
    with ``test.trained_on`` the checkpoint is of that data set, with other classes and folds.

    Args:
        content: of the checkpoint; an authors' file has no config, its tensors decide.
        config: of this run.
        stage: that the checkpoint must be of: base or meta.
        source: the path for messages.

    Raises:
        UserError: names the first setting that differs.
    """
    if not is_own(content):
        return
    refuse = partial(_other_identity, source, stage)
    if content.get("stage") != stage:
        raise refuse("stage", content.get("stage"), stage)
    trained = content["config"]
    now = to_dict(config)
    now["data"]["name"] = config.test.trained_on or now["data"]["name"]
    for key in _identity_keys(config, stage):
        wanted = find(now, key)
        given = find(trained, key, wanted)  # it may not state every key
        if given != wanted:
            raise refuse(key, given, wanted)
    if stage == "meta":
        name = trained["model"]["name"]
        if not related(name, now["model"]["name"]):
            raise refuse("model.name", name, now["model"]["name"])


def _identity_keys(config: Config, stage: str) -> list[str]:
    """Return the settings, but for the model's name, that a checkpoint of a stage must share with a run."""
    keys = ["data.name", *(f"model.{key}" for key in config.model.identity)]
    if config.test.trained_on is None:
        keys.append("data.classes")
        if stage == "base" or not config.test.allow_fold_mismatch:
            keys += [f"data.{key}" for key in FOLD]
    return keys


def _other_identity(source: str, stage: str, key: str, given: Any, wanted: Any) -> UserError:
    """Return the error about a checkpoint that has another value of a setting than its use in a stage wants."""
    hint = "; name a checkpoint of such a run"
    if key == "stage":
        hint = "; predict.py --keep-base takes a base stage"
        return UserError(f"{source}: is of the {given} stage, one of the {wanted} stage is needed{hint}")
    if stage == "meta" and key.removeprefix("data.") in FOLD:
        hint = f"; {FOLD_HINT}"
    elif stage == "meta" and key == "data.name":
        hint = f"; to test weights of another data set: --set test.trained_on={given}"
    return UserError(f"{source}: was trained with {key} = {given}, this run has {wanted}{hint}")


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Fill a network from a state dict of our own or of an authors' layout; every tensor must fit.

    UserError: the layout is of another model, a tensor is missing or unknown, of another shape, or not finite.
    """
    given = {name.removeprefix(DDP_PREFIX): tensor for name, tensor in state.items()}
    if isinstance(network, FewShotModel) and network.published is not None:
        given = network.published.translate(given) or given
    expected = network.state_dict()
    for name in dict.fromkeys((*expected, *given)):
        if problem := _misfit(name, given.get(name), expected.get(name)):
            holds = _other(network, state, given) if isinstance(network, FewShotModel) else ""
            raise UserError(f"{source}: not weights of this model as configured: {problem}; {holds}")
    network.load_state_dict({name: given.get(name, tensor) for name, tensor in expected.items()})


def _misfit(name: str, given: Tensor | None, expected: Tensor | None) -> str:
    """Return in words why a tensor of a file does not fit that of a network; '' if it does."""
    if given is None or expected is None:
        lack = "missing" if given is None else "unknown"
        return "" if name.endswith(COUNTER) else f"{name} is {lack}"
    if expected.shape != given.shape:
        return f"{name} has shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
    if expected.is_floating_point() != given.is_floating_point() or not given.isfinite().all():
        return f"{name} does not hold finite numbers of the right kind"
    return ""


def _other(network: FewShotModel, state: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """Return what a state dict that does not fit holds, ``given`` under our names, and the fix."""
    authors = published_layout(state)
    if authors not in (None, network.published):
        return f"this is a {authors.title} checkpoint, the config wants {network.title}; change model.name"
    holds = network.describe_weights(given)
    needs = network.describe_weights(network.state_dict())
    shots = network.shots_of(given)
    expected_shots = network.task.shots
    if holds == needs and shots not in (None, expected_shots):
        fix = f"train it with --set data.shot={expected_shots}, or test with --shot {shots}"
        also = "test.fuse=masks takes a network of one shot"
        return f"it was trained with {shots} shot(s), this network takes {expected_shots}: {fix}; {also}"
    keys = "model.name, model.encoder and the model's other settings, data.name, data.folds, data.shot and data.text"
    return f"it holds {holds}, expected {needs}; check {keys}"


def free_bytes(config: Config) -> int:
    """Return the bytes that are free on the disk of the run folders."""
    root = Path(config.run.folder).absolute()
    existing = next(folder for folder in (root, *root.parents) if folder.exists())
    return shutil.disk_usage(existing).free


def checkpoint_bytes(folders: Iterable[Path]) -> int:
    """Return the bytes of the checkpoints in folders, each file once, whatever its names."""
    stats = (file.stat() for folder in folders for file in folder.glob("*.pth"))
    sizes = {stat.st_ino: stat.st_size for stat in stats}
    return sum(sizes.values())


class Stored(NamedTuple):
    """The bytes of a stage's checkpoints."""

    final_bytes: int  # of a finished stage: best and last
    peak_bytes: int  # at a time: best, last, the one before, and a new one

    @classmethod
    def of(cls, network: Trainable, stage: StageSettings) -> Stored:
        """Return those of a stage's network."""
        weights = sum(tensor.nbytes for tensor in network.state_dict().values())
        learning = sum(parameter.nbytes for parameter in network.parameters() if parameter.requires_grad)
        average = learning if stage.ema_decay > 0 else 0
        moments = learning * max((MOMENTS[optimizer.kind] for optimizer in stage.optimizers.values()), default=0)
        return cls(final_bytes=2 * weights + average, peak_bytes=4 * weights + 3 * (moments + average))
