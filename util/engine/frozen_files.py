"""Weights that several checkpoints share: each part of a network in a file of its own beside them, named by its digest.

The frozen parts of a training are written once instead of with every checkpoint. A checkpoint lists the digests of its
files; a file that holds other weights is refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Collection
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from model.contract import Trainable
from util.engine.checkpoint_form import FROZEN, read_content, write_content
from util.errors import UserError

MIN_BYTES = 2**16  # of a part; a smaller one stays in the checkpoint
NAME, DIGITS = "frozen-{digits}.pth", 16  # hexadecimal digits of the digest in a file's name
WHOLE = "python prepare.py weights {path} --whole FILE"


def digest_of(state: dict[str, Tensor]) -> str:
    """Return the hexadecimal SHA-256 of named tensors, whatever file they came from."""
    out = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        out.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        out.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return out.hexdigest()


def file_name(digest: str) -> str:
    """Return the name of the file with this digest."""
    return NAME.format(digits=digest[:DIGITS])


def frozen_names(network: Trainable) -> frozenset[str]:
    """Return the names of the tensors in a network's frozen parts: parameters, and statistics of norms."""
    frozen = {id(t) for part in network.frozen() for t in chain(part.parameters(), part.buffers())}
    return frozenset(name for name, t in network.state_dict(keep_vars=True).items() if id(t) in frozen)


def parts_of(state: dict[str, Tensor], names: Collection[str]) -> list[dict[str, Tensor]]:
    """Return some of a network's tensors by the module that holds them, such as its encoder, without small parts."""
    parts: dict[str, dict[str, Tensor]] = {}
    for name in filter(names.__contains__, state):
        parts.setdefault(name.partition(".")[0], {})[name] = state[name]
    return [part for part in parts.values() if sum(t.nbytes for t in part.values()) >= MIN_BYTES]


# --- writing ---------------------------------------------------------------------------------------------------------


class FrozenFiles:
    """The files of one folder of checkpoints.

    Args:
        shared: another folder; a file that is there becomes a hard link instead of a second copy.
    """

    def __init__(self, folder: Path, shared: Path | None = None):
        self.folder, self.shared = folder, shared
        self._sound: set[str] = set()  # digests of the files that were written or read
        self.changed = True  # whether files may have become unused since ``remove_unused``

    def put(self, state: dict[str, Tensor], names: Collection[str]) -> dict[str, Any]:
        """Write the parts of a state dict that these tensors form; return the entries of a checkpoint with the rest.

        Raises:
            UserError: the disk is full or the folder cannot be written.
        """
        rest, digests = dict(state), []
        for part in parts_of(state, names):
            digest = digest_of(part)
            self._write(digest, part)
            digests.append(digest)
            rest = {name: tensor for name, tensor in rest.items() if name not in part}
        return {"weights": rest, FROZEN: digests} if digests else {"weights": rest}

    def _write(self, digest: str, part: dict[str, Tensor]) -> None:
        file = self.folder / file_name(digest)
        if digest in self._sound and file.exists():
            return
        if self.shared is not None and not file.exists():
            with contextlib.suppress(OSError):  # not there, or no hard links here
                os.link(self.shared / file.name, file)
        if not _is_sound(file, digest):
            write_content(file, {"weights": part})
        self._sound.add(digest)
        self.changed = True

    def remove_unused(self) -> None:
        """Delete the files that no checkpoint of the folder refers to; none if some checkpoint cannot be read."""
        self.changed = False
        files = set(self.folder.glob(NAME.format(digits="*")))
        used: set[str] = set()
        for path in set(self.folder.glob("*.pth")) - files:
            try:  # without reading the values of the tensors
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
                used.update(map(file_name, content.get(FROZEN, ())))
            except Exception:  # of a damaged file, or one of another kind: nobody knows what it needs
                return
        for file in files:
            if file.name not in used:
                file.unlink(missing_ok=True)


# --- reading ---------------------------------------------------------------------------------------------------------


def completed(content: dict[str, Any], path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint with the weights of the files beside it.

    Raises:
        UserError: a file is missing or damaged, holds other weights than those that the checkpoint was written with, or
            tensors that another one holds too.
    """
    weights = dict(content["weights"])
    for digest in content.get(FROZEN, []):
        part = _part(path, digest)
        if twice := part.keys() & weights.keys():
            raise UserError(f"{path}: not a checkpoint of this project's form: it has {min(twice)} twice")
        weights |= part
    return {**{key: value for key, value in content.items() if key != FROZEN}, "weights": weights}


def _part(path: Path, digest: str) -> dict[str, Tensor]:
    """Return the tensors of a file beside a checkpoint, or beside the file that the checkpoint is a link to."""
    places = [folder / file_name(digest) for folder in (path.parent, path.resolve().parent)]
    file = next((place for place in places if place.exists()), None)
    if file is None:
        raise UserError(
            f"{path}: part of this checkpoint's weights is in {places[0]}, which is missing; copy it from the folder "
            f"of the run, or take a checkpoint that was made whole there: {WHOLE.format(path=path.name)}"
        )
    try:
        weights: Any = read_content(file).get("weights")
    except UserError as error:
        raise UserError(f"{path}: part of this checkpoint's weights cannot be read: {error}") from None
    if not _has_digest(weights, digest):
        raise UserError(
            f"{file}: holds other weights than those that {path} was written with; restore the file of this name from "
            "the folder of the run"
        )
    return weights


def _is_sound(file: Path, digest: str) -> bool:
    """Return whether a file is there, can be read and has this digest."""
    try:
        return _has_digest(read_content(file).get("weights"), digest)
    except UserError:
        return False


def _has_digest(weights: Any, digest: str) -> bool:
    try:
        return digest_of(weights) == digest
    except (AttributeError, TypeError, RuntimeError):  # no tensors, or of a kind without plain values
        return False
