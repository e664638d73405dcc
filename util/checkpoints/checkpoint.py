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

from model.common.published import DDP_PREFIX
from model.contract import FewShotModel, Trainable
from model.encoders.layouts import COUNTER
from model.registry import published_layout, related
from util.config.read import to_dict
from util.config.settings import Config, StageSettings
from util.config.tree import find
from util.errors import UserError
from util.files import stand_in, write_atomically

FORMAT = "sym-net/1"
SAFETENSORS = ".safetensors"
ENDINGS = (".pth", ".pt", SAFETENSORS)
MODEL = f"model{SAFETENSORS}"  # of a published folder
HELD_BY = ("weights", "state_dict", "model_state_dict", "model", "net", "network", "module")  # keys of named tensors
WRAPPERS = (DDP_PREFIX, "model.", "net.", "network.")  # what DDP, Lightning and others put before all names
OF_TYPE = re.compile(r"GLOBAL (\S+)( was not an allowed)?")  # in torch's refusals
FOLD = ("folds", "fold_rule", "fold_classes", "fold")  # data settings that decide which classes are novel
FOLD_HINT = "its base classes may be novel here; take this fold's (test.py alone scores it, --allow-fold-mismatch)"


def save(path: Path, content: dict[str, Any], previous: Path | None = None) -> None:
    """Write a checkpoint of CPU tensors atomically: ``path`` holds either the old file or the complete new one.

    ``previous`` then holds the old one. WriteError: the disk is full or the folder cannot be written; the old file is
    unchanged.
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
    weights = {k: v.clone(memory_format=torch.contiguous_format) for k, v in weights_of(content).items()}
    rest = {key: value for key, value in content.items() if key not in ("weights", "optimizers", "ema", "scaler")}
    rest["progress"] = {"step": rest.get("progress", {}).get("step")}
    write_atomically(path, save_tensors(weights, {"content": json.dumps(rest)}), durable=True)


def halved(weights: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """Return the weights of a file in half precision; refuse (UserError) values that float16 does not hold."""
    out = {name: tensor.half() if tensor.is_floating_point() else tensor for name, tensor in weights.items()}
    if broken := next((name for name, tensor in out.items() if not tensor.isfinite().all()), None):
        raise UserError(f"{path}: {broken} has values that float16 does not hold; leave --half out")
    return out


def file_of(path: str | Path) -> Path:
    """Return the file of weights that a path names: itself, or that of a published folder."""
    return Path(path) / MODEL if Path(path).is_dir() else Path(path)


def read(path: str | Path) -> dict[str, Any]:
    """Return the content of a checkpoint, on the CPU: ours, an authors', or a plain state dict.

    UserError: the file is missing, truncated, damaged, or not a file of tensors.
    """
    path = file_of(path)
    if not path.is_file():
        raise UserError(f"{path}: this checkpoint does not exist; train first, or give the path of one")
    try:
        content = _stored(path)
    except Exception as error:  # torch raises many kinds for damaged files
        if other := stand_in(path):
            raise UserError(f"{path}: is {other}") from None
        found = OF_TYPE.search(text := str(error).rpartition("WeightsUnpickler error: ")[2].strip())
        said = f"it would load {found[1]}" if found else (text or type(error).__name__).splitlines()[0]
        raise UserError(f"{path}: truncated, or not a checkpoint that can be loaded safely ({said[:160]})") from None
    entries = content if isinstance(content, dict) else {"the file": content}
    if entries is not content or not (is_own(content) or weights_of(content)):
        kinds = ", ".join(f"{k}: {type(value).__module__}.{type(value).__qualname__}" for k, value in entries.items())
        raise UserError(f"{path}: holds no named tensors ({kinds or 'nothing'}); save them: model.state_dict()")
    return content


class _Foreign:
    """Stands for an object of any type but tensors and plain data, of which nothing is loaded or executed."""

    def __new__(cls, *_: Any, **__: Any) -> Any:
        return {"defaultdict": dict, "deque": list}.get(cls.__name__, partial(object.__new__, cls))()

    def __init__(self, *_: Any, **__: Any):
        pass

    __setstate__ = __init__


def _stored(path: Path) -> Any:
    """Return what a file holds, with a ``_Foreign`` in place of objects that torch refuses, such as NumPy's numbers."""
    if path.suffix == SAFETENSORS:
        with safe_open(path, "pt") as file:
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            header = file.metadata() or {}
        return {**json.loads(header["content"]), "weights": weights} if "content" in header else weights
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:  # torch compares no checksums
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"the checksum of its member {damaged} is wrong")
    kinds: dict[str, type] = {}
    while True:
        try:
            with torch.serialization.safe_globals([*kinds.values()]):
                return torch.load(path, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            found = OF_TYPE.search(str(error))
            if found is None or not found[2] or found[1] in kinds:
                raise
            module, _, name = found[1].rpartition(".")
            kinds[found[1]] = type(name, (_Foreign,), {"__module__": module or "builtins"})


def is_own(content: dict[str, Any]) -> bool:
    """Return whether a checkpoint says that it is of this project."""
    return content.get("format") == FORMAT


def weights_of(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the named tensors of the content that ``read`` returned, without the names of others' wrappers.

    Those of our own come with their moving average.
    """
    for key in HELD_BY:
        if isinstance(content.get(key), dict) and (held := weights_of(content[key])):
            return {**held, **content.get("ema", {})} if is_own(content) else held
    tensors = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    state = {name.replace("_orig_mod.", ""): tensor for name, tensor in tensors.items()}  # torch.compile's
    while published_layout(state) is None:
        most = next((w for w in WRAPPERS if 2 * sum(name.startswith(w) for name in state) > len(state)), None)
        if most is None:
            break
        state = {name.removeprefix(most): tensor for name, tensor in state.items()}
    return state


def training_of(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how the weights of a checkpoint were trained, stage by stage; empty where the file does not say.

    Each stage has its name, the steps that were done and planned, batch, image size, seed, digest of the list, the
    section of its config, and the precision that it was computed in, where it is known.
    """
    if not is_own(content):
        return []
    config, schedule, stage = content["config"], content.get("schedule", {}), content["stage"]
    facts = {"stage": stage, "step": content.get("progress", {}).get("step")}
    facts |= {"steps": schedule.get("steps"), "batch": schedule.get("batch")}
    facts |= {"size": config[f"{stage}_stage"].get("size") or config["data"]["size"], "seed": config["run"]["seed"]}
    facts |= {"list": content.get("data"), "settings": config[f"{stage}_stage"]}
    if "precision" in content:  # checkpoints before November 2026 know only what was asked
        facts["precision"] = content["precision"]
    return [*content.get("base", []), facts]


def precision_of(content: dict[str, Any]) -> str | None:
    """Return the precision that one of our checkpoints was trained in; None: it says only that it was chosen there."""
    asked = content["config"].get("run", {}).get("precision")
    return content.get("precision", None if asked == "auto" else asked)


def digest_of(state: dict[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of named tensors, whatever file they came from."""
    out = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        out.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        out.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()


def check_identity(content: dict[str, Any], config: Config, stage: str, source: str) -> None:
    """Refuse (UserError) one of our own checkpoints that is of another stage, model, encoder, data set or fold.

    The model's name is not compared in the base stage, whose checkpoints models share; a model may also load weights of
    the model that it extends, if the tensors fit. ``test.allow_fold_mismatch`` lets folds of the meta stage differ, and
    with ``test.trained_on`` the checkpoint is of that data set, with other classes and folds.
    """
    if not is_own(content):
        return  # an authors' file has no config; its tensors decide
    trained, now = content["config"], to_dict(config)
    keys = ["data.name", *(f"model.{key}" for key in config.model.identity)]
    if config.test.trained_on is None:
        keys.append("data.classes")
        if stage == "base" or not config.test.allow_fold_mismatch:
            keys += [f"data.{key}" for key in FOLD]
    now["data"]["name"] = config.test.trained_on or now["data"]["name"]
    pairs = {key: (find(trained, key, find(now, key)), find(now, key)) for key in keys}  # it may not state every key
    if stage == "meta" and not related(trained["model"]["name"], now["model"]["name"]):
        pairs["model.name"] = trained["model"]["name"], now["model"]["name"]
    for key, (given, want) in {"stage": (content.get("stage"), stage), **pairs}.items():
        if given != want:
            hint = f"; {FOLD_HINT}" if key.removeprefix("data.") in FOLD and stage == "meta" else ""
            hint = "; predict.py --keep-base takes a base stage" if (key, given) == ("stage", "base") else hint
            raise UserError(f"{source}: a checkpoint with {key} = {given}, this run has {want}{hint}")


def load_state(network: nn.Module, state: dict[str, Tensor], source: str) -> None:
    """Fill a network from a state dict of our own or of an authors' layout; every tensor must fit.

    UserError: the layout is of another model, a tensor is missing or unknown, of another shape, or not finite.
    """
    given, own, problem = {name.removeprefix(DDP_PREFIX): x for name, x in state.items()}, network.state_dict(), ""
    if isinstance(network, FewShotModel) and network.published is not None:
        given = network.published.translate(given) or given
    for name in dict.fromkeys((*own, *given)):
        x, wanted = given.get(name), own.get(name)
        if x is None or wanted is None:
            problem = "" if name.endswith(COUNTER) else f"{name} is {'missing' if x is None else 'unknown'}"
        elif wanted.shape != x.shape:
            problem = f"{name} has shape {tuple(x.shape)}, expected {tuple(wanted.shape)}"
        elif wanted.is_floating_point() != x.is_floating_point() or not x.isfinite().all():
            problem = f"{name} does not hold finite numbers of the right kind"
        if problem:
            about = _other(network, state, given) if isinstance(network, FewShotModel) else ""
            raise UserError(f"{source}: not weights of this model as configured: {problem}; {about}")
    network.load_state_dict({k: given.get(k, own[k]) for k in own})


def _other(network: FewShotModel, state: dict[str, Tensor], given: dict[str, Tensor]) -> str:
    """Return what a state dict that does not fit holds, ``given`` under our names, and the fix."""
    authors = published_layout(state)
    if authors is not None and authors.title != network.title:
        return f"this is a {authors.title} checkpoint, the config wants {network.title}; change model.name"
    holds, needs = network.describe_weights(given), network.describe_weights(network.state_dict())
    shots, expected = network.shots_of(given), network.task.shots
    if holds == needs and shots not in (None, expected):
        fix = f"train it with --set data.shot={expected}, or test with --shot {shots}"
        also = "test.fuse=masks takes a network of one shot"
        return f"it was trained with {shots} shot(s), this network takes {expected}: {fix}; {also}"
    keys = "model.name, model.encoder and the model's other settings, data.name, data.folds, data.shot and data.text"
    return f"it holds {holds}, expected {needs}; check {keys}"


def free_bytes(config: Config) -> int:
    """Return the bytes that are free on the disk of the run folders."""
    root = Path(config.run.folder).absolute()
    return shutil.disk_usage(next(folder for folder in (root, *root.parents) if folder.exists())).free


def taken(folders: Iterable[Path]) -> int:
    """Return the bytes of the checkpoints in folders, each file once, whatever its names."""
    stats = (file.stat() for folder in folders for file in folder.glob("*.pth"))
    return sum({stat.st_ino: stat.st_size for stat in stats}.values())


class Stored(NamedTuple):
    """The bytes of a stage's checkpoints."""

    final_bytes: int  # of a finished stage: best and last
    peak_bytes: int  # at a time: best, last, the one before, and a new one

    @classmethod
    def of(cls, network: Trainable, stage: StageSettings) -> Stored:
        """Return those of a stage's network."""
        learning = sum(p.nbytes for p in network.parameters() if p.requires_grad)
        moments = max(({"sgd": 1, "adamw": 2}[o.kind] for o in stage.optimizers.values()), default=0)
        weights, average = sum(t.nbytes for t in network.state_dict().values()), (stage.ema_decay > 0) * learning
        return cls(2 * weights + average, 4 * weights + 3 * (moments * learning + average))
