"""Checkpoints: one format, one writer, one reader, which also reads authors' files and weights of encoders.

A ``.pth`` file is a dictionary of all that a training needs to continue. Its keys:

- ``format``, ``stage`` and the merged ``config``;
- ``weights``, ``ema``, ``optimizers``, ``scaler``, ``progress``, ``schedule``: the state of the training;
- ``list``, ``images``, ``list_note``, ``content``: digest, length and note of the list, digest of its files;
- ``photos``, ``classes``: digests of the photos and names of the classes, with those of the start;
- ``base``, ``initial``: the training of the base stage, and the digest of the weights that a training starts from;
- ``text``, ``code``, ``networks``: digests of text vectors, code, and tensors that no checkpoint holds;
- ``precision``, ``computed_in``, ``trained_by``: that it was begun in, the steps in each, the number of processes;
- ``observers``, ``licence``: facts of observers of one's own, the licence of the encoder's weights;
- ``finished``, ``ended_by``, ``cost``, of ``best.pth`` at the end: the observer that ended it, and what it took.

With EMA, ``best.pth`` holds the average alone, ``last.pth`` the raw weights and the average of those that learn
(``ema``), which is what a test or a prediction loads; neither keeps optimisers once the training is done.

A ``.safetensors`` file holds weights and, but for the state of the training, the rest as JSON in its header. A
published folder holds such a file as ``MODEL``, for which it stands wherever a checkpoint is named."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as save_tensors
from torch import Tensor

from model.contract import Trainable
from model.published import DDP_PREFIX
from model.registry import published_layout
from util.files.digests import PHOTO_DIGITS
from util.files.errors import UserError, as_user_error
from util.files.project import project_path
from util.files.writing import write_atomically
from util.weights.content import SAFETENSORS, load
from util.weights.origin import Origin

FORMAT = "sym-net/1"
ENDINGS = (".pth", ".pt", SAFETENSORS)
MODEL = f"model{SAFETENSORS}"  # of a published folder
HELD_BY = ("weights", "state_dict", "model_state_dict", "model", "net", "network", "module")  # keys of named tensors
WRAPPERS = (DDP_PREFIX, "model.", "net.", "network.")  # what DDP, Lightning and others put before all names


@dataclass(frozen=True)
class State:
    """The state from which a training continues, as it was written; {}: the file has none."""

    weights: dict[str, Tensor] = field(default_factory=dict)  # without their moving average
    ema: dict[str, Tensor] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)  # see ``Progress``
    optimizers: dict[str, Any] = field(default_factory=dict)  # none of a training at its end
    scaler: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Checkpoint:
    """A file of weights that has been read, one of our own or of others; of these what a training states is unknown."""

    path: Path
    weights: dict[str, Tensor]  # by name, our own with their moving average; others' without the names of wrappers
    config: dict[str, Any] | None = None  # merged, of the training; None: a file of others
    stage: str | None = None  # meta or base
    origin: Origin = field(default_factory=Origin)
    training: list[dict[str, Any]] = field(default_factory=list)  # stage by stage, see ``_training_of``
    photos: frozenset[str] | None = None  # digests of the contents of those that it was trained on
    classes: Sequence[str] | None = None  # names of those that it was trained on
    finished: bool = False  # whether the training is
    cost: dict[str, Any] = field(default_factory=dict)  # of a finished training, see ``Progress``; {}: not known
    state: State = field(default_factory=State)
    entries: dict[str, Any] = field(default_factory=dict)  # all that our file holds, to be written again
    unread: str = ""  # why the newer one of its training cannot be read
    named: dict[str, Tensor] = field(default_factory=dict)  # others' with the names of wrappers
    is_unknown: bool = False  # whether it is of others, and of no published method

    @classmethod
    def of(cls, entries: dict[str, Any], path: Path) -> Checkpoint:
        """Return one of our own by its entries."""
        return cls(
            path=path,
            weights=_plain({**entries["weights"], **entries.get("ema", {})}),
            config=entries["config"],
            stage=entries["stage"],
            origin=Origin.of_training(entries),
            training=_training_of(entries),
            photos=photos_in(entries.get("photos")),
            classes=entries.get("classes"),
            finished=entries.get("finished", False),
            cost=entries.get("cost", {}),
            state=State(**{part.name: entries.get(part.name, {}) for part in fields(State)}),
            entries=entries,
        )

    @classmethod
    def of_others(cls, content: dict[str, Any], path: Path) -> Checkpoint:
        """Return one of others by what the file holds."""
        named = _named_tensors(content)
        weights = named
        while published_layout(weights) is None and (wrapper := _wrapper_of(weights)):
            weights = {name.removeprefix(wrapper): tensor for name, tensor in weights.items()}
        return cls(path, weights, named=named, is_unknown=published_layout(weights) is None)


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
        of_torch = as_user_error(RuntimeError, refusal=OSError)
        with of_torch, open(temporary, "wb") as file:  # a file and not a path, which torch would write into the archive
            torch.save({"format": FORMAT, **on_cpu(content)}, file)

    write_atomically(path, write, durable=True, previous=previous)


def on_cpu(value: Any) -> Any:
    """Return nested dictionaries and lists with their tensors on the CPU."""
    if isinstance(value, dict):
        return {key: on_cpu(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [on_cpu(entry) for entry in value]
    return value.cpu() if isinstance(value, Tensor) else value


def save_safetensors(path: Path, content: dict[str, Any]) -> None:
    """Write a checkpoint without its training's state as ``.safetensors``; raises as ``write_atomically`` does."""
    tensors = {**content["weights"], **content.get("ema", {})}
    weights = {name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    rest = {key: value for key, value in content.items() if key not in ("weights", "optimizers", "ema", "scaler")}
    rest["progress"] = {"step": rest.get("progress", {}).get("step")}
    write_atomically(path, save_tensors(weights, {"content": json.dumps(rest)}), durable=True)


def file_of(path: str | Path) -> Path:
    """Return the file of weights that a path names: the file, or a published folder's; see ``project_path``."""
    path = project_path(path)
    return path / MODEL if path.is_dir() else path


def read(path: str | Path) -> Checkpoint:
    """Return a checkpoint, on the CPU: ours, an authors', or a plain state dict.

    UserError: the file is missing, truncated, damaged, or not a file of tensors.
    """
    path = file_of(path)
    if not path.is_file():
        raise UserError(f"{path}: this checkpoint does not exist; train first, or name another file of weights")
    content = load(path)
    entries = content if isinstance(content, dict) else {"the file": content}
    if entries.get("format") == FORMAT:
        try:
            return Checkpoint.of(entries, path)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: is a damaged checkpoint ({error!r}); copy it anew") from None
    stored = Checkpoint.of_others(entries, path)
    if stored.weights:
        return stored
    kinds = ", ".join(f"{k}: {type(value).__module__}.{type(value).__qualname__}" for k, value in entries.items())
    raise UserError(f"{path}: holds no named tensors ({kinds or 'nothing'}); save model.state_dict()")


def _named_tensors(content: dict[str, Any]) -> dict[str, Tensor]:
    """Return the named tensors of a file of others, of the first part that holds any."""
    for key in HELD_BY:
        if held := (_named_tensors(content[key]) if isinstance(content.get(key), dict) else {}):
            return held
    plain = _plain({str(name): value for name, value in content.items() if isinstance(value, Tensor)})
    return {name.replace("_orig_mod.", ""): tensor for name, tensor in plain.items()}  # of torch.compile


def _plain(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return named tensors without attributes that a file gives them; TypeError: a value or a name is none."""
    if others := [name for name in tensors if not isinstance(name, str)]:
        raise TypeError(f"{others[0]!r} is no name of a tensor")
    return {name: Tensor.detach(tensor) for name, tensor in tensors.items()}


def _wrapper_of(names: Collection[str]) -> str | None:
    """Return the first of ``WRAPPERS`` with which most names begin; None: there is none."""
    for wrapper in WRAPPERS:
        count = sum(name.startswith(wrapper) for name in names)
        if 2 * count > len(names):
            return wrapper
    return None


def _training_of(entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Return how the weights of a checkpoint were trained, stage by stage.

    Each stage has its name, the steps that were done and planned, batch, image size, seed, digest of the list, the
    section of its config, and the precision that it was begun in; where there are any, the observers of one's own, the
    one that ended it, the steps computed in each precision, and images and note of the list.
    """
    config = entries["config"]
    stage = entries["stage"]
    settings = config[f"{stage}_stage"]
    schedule = entries.get("schedule", {})
    facts: dict[str, Any] = {
        "stage": stage,
        "step": entries.get("progress", {}).get("step"),
        "steps": schedule.get("steps"),
        "batch": schedule.get("batch"),
        "size": settings.get("size") or config["data"].get("size"),
        "seed": config["run"].get("seed"),
        "list": entries.get("list"),
        "settings": settings,
        "precision": entries.get("precision"),
    }
    facts |= {
        key: entries[key] for key in ("observers", "ended_by", "computed_in", "images", "list_note") if entries.get(key)
    }
    return [*entries.get("base", []), facts]


def photos_in(text: str | None) -> frozenset[str] | None:
    """Return the digests of photos in the entry that ``photos_text`` returned."""
    if text is None:
        return None
    return frozenset(text[start : start + PHOTO_DIGITS] for start in range(0, len(text), PHOTO_DIGITS))


def photos_text(photos: Iterable[str], before: Iterable[str] | None = ()) -> str | None:
    """Return the entry of a checkpoint that tells the digests of its photos; None: those of ``before`` are unknown."""
    return None if before is None else "".join(sorted({*photos, *before}))


def digest_of(state: dict[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of named tensors, whatever file they came from."""
    out = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        out.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        out.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()


def digest_of_rest(network: Trainable) -> str | None:
    """Return the digest of a network's tensors that its checkpoints do not hold; None: they hold all."""
    stored = network.stored_state()
    rest = {name: tensor for name, tensor in network.state_dict().items() if name not in stored}
    return digest_of(rest) if rest else None
